package nats_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// newestServer is the newest server of the day. The tests build it where the
// Go module proxy can be reached.
const newestServer = "github.com/nats-io/nats-server/v2@v2.15.2"

// programs are the servers that the tests run against.
var programs = []struct {
	name string
	find func() (path string, err error)
}{
	{"installed", installed},
	{"newest", sync.OnceValues(newest)},
}

// installed finds the server of the distribution.
func installed() (string, error) {
	if path, err := exec.LookPath("nats-server"); err == nil {
		return path, nil
	}
	const debian = "/usr/sbin/nats-server" // often not in the path of a user
	if _, err := os.Stat(debian); err != nil {
		return "", errors.New("nats-server is not installed (Debian: apt-get install nats-server)")
	}
	return debian, nil
}

// newest builds newestServer, once for all runs.
func newest() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	_, version, _ := strings.Cut(newestServer, "@")
	dir := filepath.Join(cache, "sluice-test", "nats-server-"+version)
	path := filepath.Join(dir, "nats-server")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "install", newestServer)
	build.Dir = os.TempDir() // not in a module
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s can not be built: %v: %s", newestServer, err, out)
	}
	return path, nil
}

// program returns a server to run, or skips the test. With CI set the one of
// the distribution must be there.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, p := range programs {
		if p.name != name {
			continue
		}
		path, err := p.find()
		switch {
		case err == nil:
			return path
		case os.Getenv("CI") != "" && name == "installed":
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Fatalf("no program %q", name)
	return ""
}

// server is one process of nats-server that the test can break.
type server struct {
	path    string
	args    []string
	address string
	log     string // file

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
}

// given are the ports that were given to servers.
var given sync.Map

// freeAddress returns an address on which nobody listens, and which no other
// test gets. It is below the ports that systems give to connections, or one
// would be taken while its server is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// startServer runs a server until the end of the test.
func startServer(t testing.TB, path string, args ...string) *server {
	t.Helper()
	s := &server{path: path, address: freeAddress(t), log: filepath.Join(t.TempDir(), "log")}
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.args = append([]string{"-a", host, "-p", port, "-l", s.log}, args...)
	t.Cleanup(func() { s.kill() })
	s.start(t)
	return s
}

// start runs the server and waits until it serves.
func (s *server) start(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := exec.Command(s.path, s.args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { // ends with the process
		defer close(exited)
		_ = cmd.Wait()
	}()
	s.cmd, s.exited = cmd, exited
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.Dial("tcp", s.address)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-exited:
			log, _ := os.ReadFile(s.log)
			t.Fatalf("%s %v ended: %s", s.path, s.args, log)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not serve: %v", s.path, err)
		}
	}
}

// kill ends the server with SIGKILL and waits until it is gone.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // fails if it has gone by itself
	<-s.exited
	s.cmd = nil
}

func (s *server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Pid
}

func (s *server) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Errorf("signal %v: %v", sig, err)
	}
}

// service is one server or a cluster of them, each behind a proxy if there are
// any: what a gateway connects to. Proxies know nothing of TLS.
type service struct {
	servers []*server
	proxies []*proxy
}

// startService runs n servers; more than one are a cluster.
func startService(t *testing.T, path string, n int, args ...string) *service {
	t.Helper()
	s := &service{}
	var routes []string
	for range n {
		routes = append(routes, freeAddress(t))
	}
	for i := range n {
		p := startProxy(t)
		own := append([]string{"-n", fmt.Sprintf("server-%d", i), "--client_advertise", p.address()}, args...)
		if n > 1 {
			own = append(own, "--cluster_name", "test", "--cluster", "nats://"+routes[i], "--routes", "nats://"+strings.Join(routes, ",nats://"))
		}
		srv := startServer(t, path, own...)
		p.to(srv.address)
		s.servers, s.proxies = append(s.servers, srv), append(s.proxies, p)
	}
	for i := range n {
		s.joined(t, i)
	}
	return s
}

// joined waits until server i knows all others.
func (s *service) joined(t *testing.T, i int) {
	t.Helper()
	if len(s.servers) == 1 {
		return
	}
	eventually(t, "the servers are a cluster", func() bool {
		conn, err := natsgo.Connect(s.url(i))
		if err != nil {
			return false
		}
		defer conn.Close()
		return len(conn.Servers()) == len(s.servers)
	})
}

// url is where gateway i connects.
func (s *service) url(i int) string {
	if len(s.proxies) == 0 {
		return "nats://" + s.servers[i%len(s.servers)].address
	}
	return "nats://" + s.proxies[i%len(s.proxies)].address()
}

// Service is what the suites break: all its servers at once.

func (s *service) Kill(t *testing.T) {
	for _, srv := range s.servers { // together: nobody finds one that is left
		srv.signal(t, syscall.SIGKILL)
	}
	for _, srv := range s.servers {
		srv.kill()
	}
}

func (s *service) Start(t *testing.T) {
	for _, srv := range s.servers {
		srv.start(t)
	}
}

func (s *service) Pause(t *testing.T) {
	for _, srv := range s.servers {
		backendtest.Freeze(t, srv.pid())
	}
}

func (s *service) Resume(t *testing.T) {
	for _, srv := range s.servers {
		srv.signal(t, syscall.SIGCONT)
	}
}

func (s *service) Drop(_ *testing.T, n int) {
	for _, p := range s.proxies {
		p.set(func() { p.drop = n })
	}
}

func (s *service) Flush(*testing.T) {} // there is nothing that it could lose

func (s *service) Deafen(*testing.T) {
	for _, p := range s.proxies {
		p.set(func() { p.deaf = true })
	}
}

func (s *service) Hear(*testing.T) {
	for _, p := range s.proxies {
		p.set(func() { p.deaf = false })
	}
}
