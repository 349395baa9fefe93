package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// loopbackPorts are free ports for every listener.
var loopbackPorts = []string{"MQTT_TCP_LISTEN=127.0.0.1:0", "MQTT_WS_LISTEN=127.0.0.1:0", "HTTP_LISTEN=127.0.0.1:0"}

// output runs a command that ends by itself.
func output(environ []string, args ...string) (exit int, stdout, stderr string) {
	var out, errs strings.Builder
	exit = run(process{args: args, environ: environ, stdout: &out, stderr: &errs})
	return exit, out.String(), errs.String()
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		name           string
		args           []string
		exit           int
		stdout, stderr string // what it contains; stderr "" is nothing
	}{
		{"help", []string{"help"}, 0, "check-config", ""},
		{"help by flag", []string{"--help"}, 0, "check-config", ""},
		{"help of a command", []string{"healthcheck", "-h"}, 0, "check-config", ""},
		{"version", []string{"version"}, 0, "sluice ", ""},
		{"version by flag", []string{"--version"}, 0, "sluice ", ""},
		{"table", []string{"env"}, 0, "| `MQTT_TCP_LISTEN` | `127.0.0.1:1883` |", ""},
		{"unknown command", []string{"server"}, 2, "", `no command "server"`},
		{"unknown flag", []string{"--verbose"}, 2, "", `no command "--verbose"`},
		{"unknown flag of a command", []string{"serve", "-d"}, 2, "", `serve takes no arguments, got "-d"`},
		{"unknown flag of healthcheck", []string{"healthcheck", "--uri", "x"}, 2, "", "healthcheck: flag provided but not defined: -uri"},
		{"argument of healthcheck", []string{"healthcheck", "now"}, 2, "", `got "now"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			exit, stdout, stderr := output(nil, test.args...)
			if exit != test.exit || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit %d, %q, %q", exit, stdout, stderr)
			}
			lines := strings.Count(stderr, "\n")
			if want := min(1, len(test.stderr)); lines != want {
				t.Errorf("%d lines on standard error, want %d: %q", lines, want, stderr)
			}
		})
	}
}

// TestOneLine: a wrong variable stops the start with one line.
func TestOneLine(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().String()
	tests := []struct {
		name    string
		environ []string
		want    []string
	}{
		{"wrong value", []string{"MQTT_MAX_QOS=3"}, []string{`MQTT_MAX_QOS = "3": allowed is 0, 1, 2`}},
		{"two of them", []string{"LOG_FORMAT=xml", "GATEWAY_LEASE=0s"}, []string{
			`GATEWAY_LEASE = "0s": allowed is 1s to 10m`, `LOG_FORMAT = "xml": allowed is text, json`}},
		{"sessions of one process in a cluster", []string{"GATEWAY_BACKEND=nats"}, []string{
			`GATEWAY_STORE = "memory": not with GATEWAY_BACKEND=nats: sessions in the memory of one gateway could not follow their clients to another`}},
		{"no NATS URL", []string{"GATEWAY_BACKEND=nats", "GATEWAY_STORE=redis", "NATS_URL=http://secret@host"}, []string{
			`NATS_URL = "***": nats: URL: scheme "http"; allowed are nats, tls, ws and wss`}},
		{"no Redis URL", []string{"GATEWAY_STORE=redis", "REDIS_URL=redis//secret"}, []string{
			`REDIS_URL = "***": redis: the scheme "" is none of redis, rediss, unix and redis+sentinel`}},
		{"no certificates", []string{"GATEWAY_STORE=redis", "REDIS_TLS_CA_FILE=main.go", "REDIS_TLS_KEY_FILE=main.go"}, []string{
			`REDIS_TLS_CA_FILE = "main.go": no certificate in it; allowed is PEM`,
			`REDIS_TLS_CERT_FILE = "": set it together with REDIS_TLS_KEY_FILE, or neither`}},
		{"certificates without TLS", []string{"GATEWAY_STORE=redis", "REDIS_TLS_INSECURE=true"}, []string{
			`REDIS_URL = "***": redis: there are settings for TLS, but the URL does not ask for it: rediss://, or tls=true for a Sentinel group`}},
		{"two ways into NATS", []string{"GATEWAY_BACKEND=nats", "GATEWAY_STORE=redis", "NATS_USER=a", "NATS_TOKEN=b"}, []string{
			`NATS_URL = "***": nats: of User, Token, CredentialsFile and NKeySeedFile 2 are set; allowed is one`}},
		{"reachable without authentication", []string{"MQTT_TCP_LISTEN=0.0.0.0:0"}, []string{
			`MQTT_TCP_LISTEN = "0.0.0.0:0": not a loopback address, and anonymous clients are let in there only with AUTH_ANONYMOUS=true`}},
		{"busy TCP port", []string{"MQTT_TCP_LISTEN=" + taken}, []string{
			`MQTT_TCP_LISTEN = "` + taken + `": listen tcp ` + taken + `: bind: address already in use`}},
		{"busy WebSocket port", []string{"MQTT_WS_LISTEN=" + taken}, []string{
			`MQTT_WS_LISTEN = "` + taken + `": listen tcp ` + taken + `: bind: address already in use`}},
		{"busy HTTP port", []string{"HTTP_LISTEN=" + taken}, []string{
			`HTTP_LISTEN = "` + taken + `": listen tcp ` + taken + `: bind: address already in use`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			exit, stdout, stderr := output(append(loopbackPorts[:3:3], test.environ...))
			want := strings.Join(test.want, "\n") + "\n"
			if exit != 1 || stdout != "" || stderr != want {
				t.Errorf("exit %d, %q\nstderr %s\nwant   %s", exit, stdout, stderr, want)
			}
		})
	}
}

// served is a running serve.
type served struct {
	signals chan os.Signal
	lines   chan string // of standard error; closed at its end
	exit    chan int
	tcp, ws string
	http    string
	before  []string // lines that came before it served
}

// startServe returns when the log says that it serves.
func startServe(t *testing.T, environ ...string) *served {
	t.Helper()
	s := &served{}
	s.begin(append(loopbackPorts[:3:3], environ...))
	line := s.line(t, "msg=serving")
	value := func(key string) string {
		m := regexp.MustCompile(` ` + key + `=(\S+)`).FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("no %s in %q", key, line)
		}
		return m[1]
	}
	s.tcp, s.ws, s.http = value("tcp"), value("ws"), value("http")
	return s
}

// begin runs the command.
func (s *served) begin(environ []string) {
	s.signals, s.lines, s.exit = make(chan os.Signal, 2), make(chan string, 100), make(chan int, 1)
	r, w := io.Pipe()
	go func() { // Ends with the command.
		s.exit <- run(process{environ: environ, stdout: io.Discard, stderr: w, signals: s.signals})
		w.Close()
	}()
	go func() { // Likewise.
		defer close(s.lines)
		for text := bufio.NewScanner(r); text.Scan(); {
			s.lines <- text.Text()
		}
	}()
}

// line waits for a line that contains text.
func (s *served) line(t *testing.T, text string) string {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				t.Fatalf("ended without a line with %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
			s.before = append(s.before, line)
		case <-late:
			t.Fatalf("no line with %q", text)
		}
	}
}

// end waits for the exit code.
func (s *served) end(t *testing.T) int {
	t.Helper()
	for range s.lines { // To its end, so that nobody waits to write.
	}
	return <-s.exit
}

func TestServe(t *testing.T) {
	s := startServe(t)
	for _, address := range []string{s.tcp, s.ws} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for path, want := range map[string]string{"/healthz": "alive", "/readyz": "ready", "/metrics": "sluice_connections ", "/": "/metrics"} {
		answer, err := http.Get("http://" + s.http + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != 200 || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s %.200s", path, answer.Status, text)
		}
	}
	if exit, stdout, stderr := output([]string{"HTTP_LISTEN=" + s.http}, "healthcheck"); exit != 0 || stdout != "" || stderr != "" {
		t.Errorf("healthcheck: exit %d, %q, %q", exit, stdout, stderr)
	}
	s.signals <- syscall.SIGTERM
	if exit := s.end(t); exit != 0 {
		t.Errorf("exit %d after SIGTERM, want 0", exit)
	}
	if _, err := net.Dial("tcp", s.tcp); err == nil {
		t.Error("still listening")
	}
	if exit, _, stderr := output([]string{"HTTP_LISTEN=" + s.http}, "healthcheck"); exit != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("healthcheck of nobody: exit %d, %q", exit, stderr)
	}
}

// TestStartTime takes the best of some, since other tests run beside it.
func TestStartTime(t *testing.T) {
	best := time.Hour
	for tries := 0; tries < 10 && best > time.Second; tries++ {
		begin := time.Now()
		s := startServe(t)
		best = min(best, time.Since(begin))
		s.signals <- syscall.SIGTERM
		if exit := s.end(t); exit != 0 {
			t.Errorf("exit %d", exit)
		}
	}
	if best > time.Second {
		t.Errorf("serving after %v, want less than a second", best)
	}
}

func TestServeOff(t *testing.T) {
	s := startServe(t, "MQTT_WS_LISTEN=off", "HTTP_LISTEN=off")
	if s.ws != "off" || s.http != "off" {
		t.Errorf("ws %s, http %s, want off", s.ws, s.http)
	}
	s.signals <- syscall.SIGINT
	if exit := s.end(t); exit != 0 {
		t.Errorf("exit %d after SIGINT, want 0", exit)
	}
}

// TestSecondSignal: while it drains it is not ready, and a second signal ends
// it at once.
func TestSecondSignal(t *testing.T) {
	s := startServe(t, "GATEWAY_DRAIN_DELAY=1h")
	s.signals <- syscall.SIGTERM
	s.line(t, "msg=stopping")
	until := time.Now().Add(20 * time.Second)
	for exit := 0; exit == 0 && time.Now().Before(until); {
		exit, _, _ = output([]string{"HTTP_LISTEN=" + s.http}, "healthcheck")
	}
	if exit, _, stderr := output([]string{"HTTP_LISTEN=" + s.http}, "healthcheck"); exit != 1 || !strings.Contains(stderr, "503") {
		t.Errorf("healthcheck while draining: exit %d, %q", exit, stderr)
	}
	s.signals <- syscall.SIGTERM
	if exit := s.end(t); exit != 1 {
		t.Errorf("exit %d after a second signal, want 1", exit)
	}
}

func TestServeWarnsOfUnknown(t *testing.T) {
	s := startServe(t, "MQTT_TCP_LISTN=:1884")
	if all := strings.Join(s.before, "\n"); !strings.Contains(all, `level=WARN msg="unknown variable" name=MQTT_TCP_LISTN nearest=MQTT_TCP_LISTEN`) {
		t.Errorf("no warning in %q", all)
	}
	s.signals <- syscall.SIGTERM
	s.end(t)
	exit, _, stderr := output(append(loopbackPorts[:3:3], "MQTT_TCP_LISTN=:1884"), "check-config")
	if want := "warning: MQTT_TCP_LISTN is not a variable of this program, MQTT_TCP_LISTEN is\n"; exit != 0 || stderr != want {
		t.Errorf("exit %d, %q, want %q", exit, stderr, want)
	}
}

func TestCheckConfig(t *testing.T) {
	exit, stdout, stderr := output([]string{"MQTT_MAX_QOS=1", "MQTT_WS_LISTEN="}, "check-config")
	if exit != 0 || stderr != "" {
		t.Errorf("exit %d, %q", exit, stderr)
	}
	for _, want := range []string{`(?m)^MQTT_MAX_QOS +1 +env$`, `(?m)^MQTT_WS_LISTEN +127\.0\.0\.1:8083 +default$`, `(?m)^LOG_LEVEL +info +default$`} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("no line %s in\n%s", want, stdout)
		}
	}
	exit, stdout, stderr = output([]string{"MQTT_MAX_QOS=x", "LOG_LEVEL=loud"}, "check-config")
	want := "MQTT_MAX_QOS = \"x\": allowed is 0, 1, 2\nLOG_LEVEL = \"loud\": allowed is debug, info, warn, error\n"
	if exit != 1 || stderr != want || !strings.Contains(stdout, "GATEWAY_ID") {
		t.Errorf("exit %d, %q, want %q", exit, stderr, want)
	}
}

func TestHealthcheck(t *testing.T) {
	var status int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, "not ready: store: away\n")
	}))
	defer s.Close()
	for _, test := range []struct {
		status, exit int
		stderr       string
	}{{200, 0, ""}, {503, 1, "503 Service Unavailable: not ready: store: away\n"}, {404, 1, "404 Not Found: not ready: store: away\n"}} {
		status = test.status
		if exit, _, stderr := output(nil, "healthcheck", "--url", s.URL); exit != test.exit || stderr != test.stderr {
			t.Errorf("%d: exit %d, %q, want %d, %q", test.status, exit, stderr, test.exit, test.stderr)
		}
	}
	if exit, _, stderr := output([]string{"HTTP_LISTEN=off"}, "healthcheck"); exit != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("off: exit %d, %q", exit, stderr)
	}
}

// TestSignalBeforeStart also shows the other form of the log.
func TestSignalBeforeStart(t *testing.T) {
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGTERM
	var errs strings.Builder
	exit := run(process{environ: append(loopbackPorts[:3:3], "LOG_FORMAT=json"), stdout: io.Discard, stderr: &errs, signals: signals})
	if exit != 0 {
		t.Errorf("exit %d", exit)
	}
	for line := range strings.Lines(errs.String()) {
		if !strings.HasPrefix(line, `{"time":`) {
			t.Errorf("not JSON: %s", line)
		}
	}
}
