package redis

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// server is a redis-server process of the tests, reached through a proxy.
type server struct {
	dir, address string
	settings     []string
	proxy        *proxy
	process      *exec.Cmd
	exited       chan struct{}
	loads        bool // one that is loading its data has started
}

// serverPath returns the path of redis-server, or of the server that REDIS_SERVER
// names instead. Without one the test is skipped, but not where tests must be
// complete.
func serverPath(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("REDIS_SERVER"); path != "" {
		return path
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
	return path
}

// freeAddress returns a loopback address that nobody listens on, and until the test
// ends nobody gets who asks for any port: its server may be down for a while. Servers
// of a cluster need the port 10,000 above as well.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		port, err := reserve(t, 0)
		if err != nil {
			t.Fatal(err)
		}
		if port >= 55_535 {
			continue
		}
		if _, err := reserve(t, port+10_000); err == nil {
			return fmt.Sprint("127.0.0.1:", port)
		}
	}
}

// reserve binds a port, any for 0, until the test ends, and does not listen. From then
// on the system gives it only to who asks for it.
func reserve(t testing.TB, port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	own, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return own.(*syscall.SockaddrInet4).Port, nil
}

// dataDir returns a directory in memory, if there is one.
func dataDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sluice-redis-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// startServer runs a server until the test ends, with further settings in
// pairs. It syncs its append-only file before it answers: with "everysec" a
// server on a busy machine holds writes back while the last sync is under way,
// up to two seconds, and loses what it has answered when it is killed then.
func startServer(t testing.TB, settings ...string) *server {
	t.Helper()
	s := &server{dir: dataDir(t), address: freeAddress(t)}
	s.settings = append([]string{"--appendonly", "yes", "--appendfsync", "always"}, settings...)
	s.run(t)
	t.Cleanup(func() {
		if s.process != nil {
			_ = s.process.Process.Signal(syscall.SIGCONT)
			_ = s.process.Process.Kill()
			<-s.exited
		}
	})
	s.proxy = startProxy(t, s.address)
	return s
}

func (s *server) run(t testing.TB) {
	t.Helper()
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"--bind", host, "--port", port, "--dir", s.dir, "--save", "", "--daemonize", "no",
		"--logfile", filepath.Join(s.dir, "log"), "--maxmemory-policy", "noeviction", "--unixsocket", s.socket(),
	}, s.settings...)
	s.process = exec.Command(serverPath(t), args...)
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	process, exited := s.process, make(chan struct{})
	s.exited = exited
	go func() { // ends with the process
		_ = process.Wait()
		close(exited)
	}()
	client := goredis.NewClient(&goredis.Options{Addr: s.address})
	defer client.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if err := client.Ping(context.Background()).Err(); err == nil || goredis.HasErrorPrefix(err, "NOAUTH") || s.loads && goredis.HasErrorPrefix(err, "LOADING") {
			return
		}
		select {
		case <-exited:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("redis-server has ended: %s", log)
		case <-time.After(5 * time.Millisecond): // nothing announces it
		}
		if time.Now().After(deadline) {
			t.Fatal("redis-server does not answer")
		}
	}
}

// socket is the path of the server's other listener.
func (s *server) socket() string { return filepath.Join(s.dir, "socket") }

// url returns the address of the server, through the proxy.
func (s *server) url() string { return "redis://" + s.proxy.address() }

// direct returns a client that does not go through the proxy.
func (s *server) direct(t testing.TB) *goredis.Client {
	c := goredis.NewClient(&goredis.Options{Addr: s.address})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.process.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *server) Kill(t *testing.T) {
	s.signal(t, syscall.SIGKILL)
	<-s.exited
	s.process = nil
}

func (s *server) Start(t *testing.T)  { s.run(t) }
func (s *server) Pause(t *testing.T)  { backendtest.Freeze(t, s.process.Process.Pid) }
func (s *server) Resume(t *testing.T) { s.signal(t, syscall.SIGCONT) }

func (s *server) Drop(_ *testing.T, n int) { s.proxy.drop(n) }

func (s *server) Flush(t *testing.T) {
	if err := s.direct(t).ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func (s *server) Deafen(t *testing.T) { t.Fatal("a store delivers nothing") }
func (s *server) Hear(*testing.T)     {}

var prefixes struct {
	mu sync.Mutex
	n  int
}

// freshPrefix returns a prefix that no other test uses: an empty state.
func freshPrefix() string {
	prefixes.mu.Lock()
	defer prefixes.mu.Unlock()
	prefixes.n++
	return fmt.Sprintf("test-%d:", prefixes.n)
}
