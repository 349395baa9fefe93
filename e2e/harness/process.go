package harness

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	startLimit = 20 * time.Second // until ready; a race build on a busy machine is slow
	stopLimit  = 20 * time.Second // from SIGTERM to exit
	// reviveLimit is until ready for a gateway that waits for Redis or NATS.
	reviveLimit = time.Minute
	drainTime   = "GATEWAY_DRAIN=200ms"
	// portTries: between choosing a free port and the gateway's listening on
	// it another process may take it.
	portTries = 5
)

// prefixes of the gateway's variables. What the developer's shell has set does
// not reach the gateway under test.
var prefixes = []string{"GATEWAY_", "MQTT_", "HTTP_", "REDIS_", "NATS_", "AUTH_", "TLS_", "LOG_"}

// process is one run of the binary.
type process struct {
	cmd     *exec.Cmd
	log     *log
	exited  chan struct{} // closed when it has ended and err is set
	err     error         // of Wait
	stopped bool          // it was asked to end
}

func start(env []string) (*Gateway, error) {
	for try := 1; ; try++ {
		g, err := prepare(env)
		if err != nil {
			return nil, err
		}
		g.launch()
		if err = g.ready(); err == nil {
			return g, nil
		}
		g.process.kill()
		text := g.process.log.tail()
		if try == portTries || !strings.Contains(text, "address already in use") {
			return nil, fmt.Errorf("harness: gateway is not ready: %w\n%s", err, text)
		}
	}
}

// prepare gives a gateway its ports and its variables.
func prepare(env []string) (*Gateway, error) {
	path, err := binary()
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	g := &Gateway{TCP: ports[0], WS: "ws://" + ports[1] + "/mqtt", HTTP: "http://" + ports[2], path: path}
	g.cluster, g.clusterW = []string{g.TCP}, []string{g.WS}
	own := []string{"MQTT_TCP_LISTEN=" + ports[0], "MQTT_WS_LISTEN=" + ports[1], "HTTP_LISTEN=" + ports[2], drainTime}
	g.env = append(own, env...)
	return g, nil
}

// launch runs the gateway. What an earlier run has written stays in its log.
func (g *Gateway) launch() {
	l := &log{}
	if g.process != nil {
		l = g.process.log
	}
	g.process = launch(exec.Command(g.path), g.env, l)
	g.starts++
}

// launch starts a command. A start that fails counts as a process that ended.
// What it writes goes to the end of l.
func launch(cmd *exec.Cmd, env []string, l *log) *process {
	p := &process{cmd: cmd, log: l, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	}), env...)
	dieWithParent(cmd)
	started := make(chan struct{})
	// Ends with the process. The thread is held because, where the system
	// ends the child with its parent, parent means this thread.
	go func() {
		runtime.LockOSThread()
		if p.err = cmd.Start(); p.err == nil {
			close(started)
			p.err = cmd.Wait()
		} else {
			close(started)
		}
		close(p.exited)
	}()
	<-started
	return p
}

// ready waits until the gateway says so.
func (g *Gateway) ready() error { return g.readyWithin(startLimit) }

func (g *Gateway) readyWithin(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var last error
	for {
		once, done := context.WithTimeout(ctx, checkLimit) // it may be paused
		err := readyAt(once, g.HTTP)
		done()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-g.process.exited:
			return fmt.Errorf("it exited: %w", g.process.err)
		case <-ctx.Done():
			return last
		case <-time.After(5 * time.Millisecond): // a poll: nothing announces readiness to a process outside
		}
	}
}

// stop ends the process in order. It is an error if it had ended by itself,
// does not end in time, or ends with another exit code than 0.
func (p *process) stop() error {
	if p.stopped {
		return nil
	}
	select {
	case <-p.exited:
		p.stopped = true
		return fmt.Errorf("harness: the gateway ended by itself: %v", p.err)
	default:
	}
	p.stopped = true
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopLimit):
		p.kill()
		return fmt.Errorf("harness: the gateway did not end within %v of SIGTERM", stopLimit)
	}
	if p.err != nil {
		return fmt.Errorf("harness: the gateway ended with %v", p.err)
	}
	return nil
}

func (p *process) kill() {
	p.stopped = true
	if p.cmd.Process != nil {
		p.cmd.Process.Kill()
	}
	<-p.exited
}

// own fails or skips a test that wants to act on a process not started here.
func (g *Gateway) own(t testing.TB) *process {
	t.Helper()
	if g.process == nil {
		t.Skip("needs a gateway of its own, and E2E_TCP is set")
	}
	return g.process
}

// Stop sends SIGTERM and waits until the gateway has ended, with exit code 0.
func (g *Gateway) Stop(t testing.TB) {
	t.Helper()
	g.own(t)
	var all sync.WaitGroup
	for _, g := range g.each() {
		all.Go(func() { // ends with the process
			if err := g.process.stop(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// Kill ends the gateway without warning and waits until it is gone.
func (g *Gateway) Kill(t testing.TB) {
	t.Helper()
	g.own(t)
	for _, g := range g.each() {
		g.process.kill()
	}
}

// Launch starts a gateway again that was stopped or killed, with the same
// ports and variables, and does not wait until it is ready.
func (g *Gateway) Launch(t testing.TB) {
	t.Helper()
	if p := g.own(t); !p.stopped {
		t.Fatal("harness: the gateway is running")
	}
	g.launch()
}

// Restart is Launch and AwaitReady.
func (g *Gateway) Restart(t testing.TB) {
	t.Helper()
	g.Launch(t)
	g.AwaitReady(t)
}

// Revive starts a gateway that was stopped or killed, and returns when it is
// ready: it may have to wait for Redis or NATS.
func (g *Gateway) Revive(t testing.TB) {
	t.Helper()
	g.Launch(t)
	if err := g.readyWithin(reviveLimit); err != nil {
		t.Fatalf("harness: the gateway is not ready: %v\n%s", err, g.process.log.tail())
	}
}

// AwaitReady waits until the gateway is ready.
func (g *Gateway) AwaitReady(t testing.TB) {
	t.Helper()
	if err := g.ready(); err != nil {
		t.Fatalf("harness: the gateway is not ready: %v\n%s", err, g.process.log.tail())
	}
}

// Starts is how many times the gateway was started.
func (g *Gateway) Starts() int { return g.starts }

// Readiness asks the gateway whether it is ready: nil is yes.
func (g *Gateway) Readiness() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return readyAt(ctx, g.HTTP)
}

// Signal sends a signal, like SIGHUP, SIGSTOP or SIGCONT.
func (g *Gateway) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	g.own(t)
	for _, g := range g.each() {
		if err := g.process.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
}

// Pause stops the gateway with SIGSTOP, and waits until all of it stands still.
func (g *Gateway) Pause(t testing.TB) {
	t.Helper()
	g.Signal(t, syscall.SIGSTOP)
	for _, g := range g.each() {
		deadline := time.Now().Add(startLimit)
		for !stopped(g.process.cmd.Process.Pid) {
			if time.Now().After(deadline) {
				t.Fatal("harness: the gateway does not stop")
			}
			time.Sleep(time.Millisecond) // a poll: nothing announces it
		}
	}
}

// Resume lets a paused gateway go on.
func (g *Gateway) Resume(t testing.TB) {
	t.Helper()
	g.Signal(t, syscall.SIGCONT)
}

// Exited is closed when the gateway has ended.
func (g *Gateway) Exited(t testing.TB) <-chan struct{} {
	t.Helper()
	return g.own(t).exited
}

// PID is the process identifier, to look at memory and descriptors.
func (g *Gateway) PID(t testing.TB) int {
	t.Helper()
	return g.own(t).cmd.Process.Pid
}

// Logs returns everything the gateway has written so far.
func (g *Gateway) Logs() string {
	if g.process == nil {
		return ""
	}
	return g.process.log.String()
}

// Run runs the binary with arguments and variables until it ends, for tests of
// sub-commands and of settings that stop the start. It returns the exit code
// and everything written.
func Run(t testing.TB, args []string, env ...string) (code int, output string) {
	t.Helper()
	return RunInput(t, "", args, env...)
}

// RunInput is Run with something on standard input.
func RunInput(t testing.TB, input string, args []string, env ...string) (code int, output string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(input)
	p := launch(cmd, env, &log{})
	select {
	case <-p.exited:
	case <-time.After(stopLimit):
		p.kill()
		t.Fatalf("harness: gateway %v did not end within %v\n%s", args, stopLimit, p.log.tail())
	}
	if p.cmd.ProcessState == nil {
		t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode(), p.log.String()
}

// Metric returns the value of a metric, whose labels are part of its name, and
// "" if it is not there.
func (g *Gateway) Metric(t testing.TB, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.HTTP+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return value
		}
	}
	return ""
}

// Forgive lets a gateway have ended by itself: the test expects it.
func (g *Gateway) Forgive() { g.process.stopped = true }
