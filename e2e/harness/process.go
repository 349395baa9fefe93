package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	startLimit = 20 * time.Second // until ready; a race build on a busy machine is slow
	stopLimit  = 20 * time.Second // from SIGTERM to exit
	drainTime  = "GATEWAY_DRAIN=200ms"
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
	path, err := binary()
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		g, err := startOnce(path, env)
		if err == nil || try == portTries || !errors.Is(err, errPortTaken) {
			return g, err
		}
	}
}

var errPortTaken = errors.New("address already in use")

func startOnce(path string, env []string) (*Gateway, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	g := &Gateway{TCP: ports[0], WS: "ws://" + ports[1] + "/mqtt", HTTP: "http://" + ports[2]}
	g.cluster, g.clusterW = []string{g.TCP}, []string{g.WS}
	own := []string{"MQTT_TCP_LISTEN=" + ports[0], "MQTT_WS_LISTEN=" + ports[1], "HTTP_LISTEN=" + ports[2], drainTime}
	g.process = launch(exec.Command(path), append(own, env...))
	if err := g.ready(); err != nil {
		g.process.kill()
		text := g.process.log.tail()
		if strings.Contains(text, errPortTaken.Error()) {
			return nil, errPortTaken
		}
		return nil, fmt.Errorf("harness: gateway is not ready: %w\n%s", err, text)
	}
	return g, nil
}

// freePorts finds loopback addresses on which nobody listens.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // after all are chosen, so that they differ
		ports = append(ports, l.Addr().String())
	}
	return ports, nil
}

// launch starts a command. A start that fails counts as a process that ended.
func launch(cmd *exec.Cmd, env []string) *process {
	p := &process{cmd: cmd, log: &log{}, exited: make(chan struct{})}
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
func (g *Gateway) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.HTTP+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New("/readyz: " + resp.Status)
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
	if err := g.own(t).stop(); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the gateway without warning and waits until it is gone.
func (g *Gateway) Kill(t testing.TB) {
	t.Helper()
	g.own(t).kill()
}

// Signal sends a signal, like SIGHUP, SIGSTOP or SIGCONT.
func (g *Gateway) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := g.own(t).cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
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
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := launch(exec.Command(path, args...), env)
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
