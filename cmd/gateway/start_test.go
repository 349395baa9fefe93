package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freeAddress is one that nobody listens on. Until the test ends the system gives
// it to none who asks for any port, only to those who ask for it.
func freeAddress(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	own, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", own.(*syscall.SockaddrInet4).Port)
}

// serverAt runs a server until the test ends, and returns when it listens.
func serverAt(t *testing.T, address, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if path = "/usr/sbin/" + program; !isFile(path) { // often not in the path of a user
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	c := exec.Command(path, args...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if nc, err := net.Dial("tcp", address); err == nil {
			nc.Close()
			return
		}
		if time.Now().After(until) {
			t.Fatal(program, " does not start")
		}
	}
}

func isFile(path string) bool { _, err := os.Stat(path); return err == nil }

func redisAt(t *testing.T, address string, args ...string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(address)
	serverAt(t, address, "redis-server", append([]string{"--bind", host, "--port", port, "--save", "", "--dir", t.TempDir()}, args...)...)
}

func natsAt(t *testing.T, address string, args ...string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(address)
	serverAt(t, address, "nats-server", append([]string{"-a", host, "-p", port}, args...)...)
}

// early is a serve that may not serve yet, at addresses that are known.
func early(t *testing.T, environ ...string) *served {
	t.Helper()
	s := &served{tcp: freeAddress(t), http: freeAddress(t)}
	s.begin(append([]string{"MQTT_TCP_LISTEN=" + s.tcp, "MQTT_WS_LISTEN=off", "HTTP_LISTEN=" + s.http}, environ...))
	return s
}

// get asks the HTTP server, from when it is there.
func (s *served) get(t *testing.T, path string) (int, string) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		answer, err := http.Get("http://" + s.http + path)
		if err == nil {
			defer answer.Body.Close()
			text, _ := io.ReadAll(answer.Body)
			return answer.StatusCode, string(text)
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
}

// TestServersComeLate: a gateway that is started before Redis or NATS waits,
// alive and not ready, lets nobody in meanwhile, and then serves.
func TestServersComeLate(t *testing.T) {
	t.Parallel()
	for _, late := range []string{"store", "bus"} {
		t.Run(late, func(t *testing.T) {
			t.Parallel()
			redis, nats := freeAddress(t), freeAddress(t)
			comes := func() { redisAt(t, redis) }
			if late == "store" {
				natsAt(t, nats)
			} else {
				comes()
				comes = func() { natsAt(t, nats) }
			}
			s := early(t, "GATEWAY_STORE=redis", "GATEWAY_BACKEND=nats", "REDIS_URL=redis://"+redis, "NATS_URL=nats://"+nats,
				"AUTH_REDIS_USERS=true", "AUTH_REDIS_ACL=true", "EVENTS_NATS=true", "NATS_BRIDGE_PREFIX=bridge", "AUTH_ANONYMOUS=true", "LOG_FORMAT=text")
			first := s.line(t, "msg=\"the start waits for a server\"")
			for _, want := range []string{"level=WARN", "part=" + late, "try=1", "next_in=1s", " err="} {
				if !strings.Contains(first, want) {
					t.Errorf("no %s in %s", want, first)
				}
			}
			_, reason, _ := strings.Cut(first, " err=")
			if second := s.line(t, "the start waits"); !strings.Contains(second, "try=2 next_in=2s") || strings.Contains(second, reason) {
				t.Errorf("the second try says %s", second)
			}
			for path, want := range map[string]struct {
				status int
				text   string
			}{
				"/healthz": {200, "alive"}, "/readyz": {503, "not ready: " + late + ": starting: "},
				"/metrics": {200, "sluice_ready 0"}, "/": {200, "<html"}, "/api/v1/clients": {404, ""},
			} {
				if status, text := s.get(t, path); status != want.status || !strings.Contains(text, want.text) {
					t.Errorf("%s: %d %.300s", path, status, text)
				}
			}
			if nc, err := net.Dial("tcp", s.tcp); err == nil {
				nc.Close()
				t.Error("clients are let in already")
			}
			comes()
			if line := s.line(t, "waited for is there"); !strings.Contains(line, "level=INFO") {
				t.Error(line)
			}
			s.line(t, "msg=serving")
			for until := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { // what is beside the bus has its own pace
				status, text := s.get(t, "/readyz")
				if status == 200 {
					break
				}
				if time.Now().After(until) {
					t.Fatal(text)
				}
			}
			nc, err := net.Dial("tcp", s.tcp)
			if err != nil {
				t.Fatal(err)
			}
			nc.Close()
			s.signals <- syscall.SIGTERM
			if exit := s.end(t); exit != 0 {
				t.Errorf("exit %d", exit)
			}
		})
	}
}

// TestSignalWhileWaiting: it ends at once, in order, also while a server that
// accepts and says nothing is waited for.
func TestSignalWhileWaiting(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	redis := redisServer(t)
	for name, environ := range map[string][]string{
		"no Redis":     {"REDIS_URL=redis://" + freeAddress(t)},
		"no such host": {"REDIS_URL=redis://host.invalid:6379"},
		"silent Redis": {"REDIS_URL=redis://" + silent.Addr().String()},
		"no NATS":      {"REDIS_URL=" + redis, "GATEWAY_BACKEND=nats", "NATS_URL=nats://" + freeAddress(t)},
		"no NATS host": {"REDIS_URL=" + redis, "GATEWAY_BACKEND=nats", "NATS_URL=nats://host.invalid"},
		"silent NATS":  {"REDIS_URL=" + redis, "GATEWAY_BACKEND=nats", "NATS_URL=nats://" + silent.Addr().String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := early(t, append([]string{"GATEWAY_STORE=redis"}, environ...)...)
			if strings.HasPrefix(name, "silent") {
				s.get(t, "/healthz") // within a try
			} else {
				s.line(t, "the start waits")
			}
			s.signals <- syscall.SIGTERM
			if exit := s.end(t); exit != 0 {
				t.Errorf("exit %d", exit)
			}
		})
	}
}

// TestStartEnds: what waiting does not mend ends the start with one line.
func TestStartEnds(t *testing.T) {
	t.Parallel()
	redis, locked, few, nats, shut := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	redisAt(t, redis)
	redisAt(t, locked, "--requirepass", "hunter2")
	redisAt(t, few, "--user", "default", "on", "nopass", "~*", "&*", "+@all", "-evalsha")
	natsAt(t, shut, "--user", "gateway", "--pass", "hunter2")
	rights := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(rights, []byte(`authorization { users = [ { user: u, password: p, permissions: { publish: "other.>" } } ] }`), 0o600); err != nil {
		t.Fatal(err)
	}
	natsAt(t, nats, "-c", rights)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	untrusted := secure.Listener.Addr().String()
	bus := func(url string) []string {
		return []string{"REDIS_URL=redis://" + redis, "GATEWAY_BACKEND=nats", "NATS_URL=" + url}
	}
	for name, test := range map[string]struct {
		environ []string
		want    string
	}{
		"no password of Redis":    {[]string{"REDIS_URL=redis://" + locked}, "the server wants a password"},
		"wrong password of Redis": {[]string{"REDIS_URL=redis://:secret9@" + locked}, "user name or password is wrong"},
		"rights in Redis":         {[]string{"REDIS_URL=redis://" + few}, "the user may not do this"},
		"certificate of Redis":    {[]string{"REDIS_URL=rediss://" + untrusted}, "certificate"},
		"no such database":        {[]string{"REDIS_URL=redis://" + redis + "/99"}, "DB index is out of range"},
		"wrong password of NATS":  {bus("nats://gateway:secret9@" + shut), "credentials refused"},
		"rights in NATS":          {bus("nats://u:p@" + nats), "Permissions Violation for Publish"},
		"TLS to a NATS without":   {bus("tls://gateway:hunter2@" + shut), "secure connection not available"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := early(t, append([]string{"GATEWAY_STORE=redis", "LOG_LEVEL=error"}, test.environ...)...)
			last, lines, late := "", 0, time.AfterFunc(time.Minute, func() { s.signals <- syscall.SIGTERM })
			defer late.Stop()
			for line := range s.lines {
				last = line
				lines++
			}
			if exit := s.end(t); exit != 1 || lines != 1 || !strings.Contains(last, test.want) || strings.Contains(last, "secret9") {
				t.Errorf("exit %d after %d lines, the last %s", exit, lines, last)
			}
		})
	}
}
