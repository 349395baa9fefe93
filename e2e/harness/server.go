package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server or a nats-server of the tests.
type Server struct {
	// Address is host:port.
	Address string

	path    string
	args    []string
	dir     string // of its data
	greeted func(address string) error
	log     *log
	process *process // nil after Kill
}

// StartRedis runs a Redis with an append-only file until the test ends, with
// further settings in pairs ("--maxmemory", "1mb"). The file is synced before an
// answer: with "everysec" a Redis that waits for the last sync answers without
// having written, for up to two seconds, and what is tested here is the gateway
// and not the disk.
func StartRedis(t testing.TB, settings ...string) *Server {
	t.Helper()
	dir, err := memoryDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := startRedis(dir, settings)
	return served(t, s, err)
}

// StartNATS runs a NATS server until the test ends.
func StartNATS(t testing.TB) *Server {
	t.Helper()
	s, err := startNATS()
	return served(t, s, err)
}

// served stops a server at the end of the test. Where it is not installed the
// test is skipped, and fails with CI set.
func served(t testing.TB, s *Server, err error) *Server {
	t.Helper()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill(t)
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(s.path), s.log.tail())
		}
	})
	return s
}

// memoryDir makes a directory in memory, if there is such a place: a sync costs
// nothing there.
func memoryDir() (string, error) {
	if dir, err := os.MkdirTemp("/dev/shm", "sluice-e2e-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp("", "sluice-e2e-")
}

func startRedis(dir string, settings []string) (*Server, error) {
	return startServer("redis-server", dir, func(host, port string) []string {
		return append([]string{"--bind", host, "--port", port, "--dir", dir, "--save", "", "--appendonly", "yes",
			"--appendfsync", "always", "--maxmemory-policy", "noeviction", "--daemonize", "no"}, settings...)
	}, redisAnswers)
}

func startNATS() (*Server, error) {
	return startServer("nats-server", "", func(host, port string) []string { return []string{"-a", host, "-p", port} }, natsGreets)
}

func startServer(name, dir string, args func(host, port string) []string, greeted func(string) error) (*Server, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; !executable(path) { // often not in the path of a user
			return nil, err
		}
	}
	for try := 1; ; try++ {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		host, port, err := net.SplitHostPort(ports[0])
		if err != nil {
			return nil, err
		}
		s := &Server{Address: ports[0], path: path, args: args(host, port), dir: dir, greeted: greeted, log: &log{}}
		if err = s.start(); err == nil || try == portTries {
			return s, err
		}
	}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

// start runs the server and waits until it serves.
func (s *Server) start() error {
	s.process = launch(exec.Command(s.path, s.args...), nil, s.log)
	deadline := time.Now().Add(startLimit)
	for {
		err := s.greeted(s.Address)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.exited:
			return fmt.Errorf("harness: %s ended: %v\n%s", s.path, s.process.err, s.log.tail())
		case <-time.After(5 * time.Millisecond): // a poll: nothing announces it
		}
		if time.Now().After(deadline) {
			s.process.kill()
			return fmt.Errorf("harness: %s does not serve: %w\n%s", s.path, err, s.log.tail())
		}
	}
}

// natsGreets reads the first line that a NATS server sends.
func natsGreets(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	hello, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(hello, "INFO ") {
		err = fmt.Errorf("it says %q", hello)
	}
	return err
}

// redisAnswers asks a Redis whether it has loaded its data.
func redisAnswers(address string) error {
	_, err := redisDo(address, "PING")
	return err
}

// Do runs one command, words separated by blanks, and returns the answer as
// text: that of a list is its length.
func (s *Server) Do(t testing.TB, command string) string {
	t.Helper()
	answer, err := redisDo(s.Address, command)
	if err != nil {
		t.Fatalf("harness: redis: %s: %v", command, err)
	}
	return answer
}

func redisDo(address, command string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(startLimit))
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	switch line[0] {
	case '-':
		return "", errors.New(line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", err
		}
		b := make([]byte, n)
		_, err = io.ReadFull(r, b)
		return string(b), err
	}
	return line[1:], nil
}

// Kill ends the server with SIGKILL and waits until it is gone.
func (s *Server) Kill(testing.TB) {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Start runs the server again, on its address and what it had stored.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if s.process != nil {
		return
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Empty removes what a killed server had stored.
func (s *Server) Empty(t testing.TB) {
	t.Helper()
	if s.process != nil || s.dir == "" {
		t.Fatal("harness: a server that runs, or stores nothing")
	}
	names, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
}

// Pause stops the server with SIGSTOP; its connections stay open.
func (s *Server) Pause(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if s.process == nil {
		t.Fatal("harness: the server is not running")
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}
