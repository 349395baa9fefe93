package clients_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

// program is a running client program that speaks package line.
type program struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer // safe to read once ended is closed

	mu      sync.Mutex
	last    int // request number
	waiting map[int]chan line.Report
	conns   map[string]*events
	ended   chan struct{} // closed when it said its last
}

// startProgram starts a client program. It ends when its standard input does, so
// with the tests at the latest.
func startProgram(command []string) (*program, error) {
	p := &program{
		cmd:     exec.Command(command[0], command[1:]...),
		waiting: map[int]chan line.Report{},
		conns:   map[string]*events{},
		ended:   make(chan struct{}),
	}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.listen(stdout) // until the program ends
	return p, nil
}

func (p *program) listen(stdout io.Reader) {
	lines := bufio.NewReader(stdout)
	var fault error
	for fault == nil {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var r line.Report
		if fault = json.Unmarshal(text, &r); fault == nil {
			p.hear(r)
		}
	}
	p.cmd.Process.Kill() // where it said something else than a Report
	p.cmd.Wait()
	if fault != nil {
		fmt.Fprintf(&p.stderr, "%v\n", fault)
	}
	close(p.ended)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.conns {
		e.add(line.Report{Down: true})
	}
}

func (p *program) hear(r line.Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.N != 0 {
		p.waiting[r.N] <- r // has room for it
		delete(p.waiting, r.N)
	} else if e := p.conns[r.Conn]; e != nil {
		e.add(r)
	}
}

// send sends a request and returns the channel of its answer.
func (p *program) send(q line.Request) (<-chan line.Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	q.N = p.last
	answer := make(chan line.Report, 1)
	p.waiting[q.N] = answer
	text, err := json.Marshal(q)
	if err == nil {
		_, err = p.stdin.Write(append(text, '\n'))
	}
	return answer, err
}

// ask sends a request and waits for its answer.
func (p *program) ask(q line.Request) (line.Report, error) {
	answer, err := p.send(q)
	if err != nil {
		return line.Report{}, err
	}
	return p.await(q.Do, answer)
}

func (p *program) await(what string, answer <-chan line.Report) (line.Report, error) {
	select {
	case r := <-answer:
		if r.Error != "" {
			return r, fmt.Errorf("%s: %s", what, r.Error)
		}
		return r, nil
	case <-p.ended:
		return line.Report{}, fmt.Errorf("%s: the client program ended: %s", what, p.stderr.String())
	case <-time.After(patience):
		return line.Report{}, fmt.Errorf("%s: no answer within %v", what, patience)
	}
}

// programConn is one connection of a program.
type programConn struct {
	*events
	p    *program
	name string
	gone bool // disconnect was called
}

func (p *program) connect(name string, c line.Connect) (*programConn, line.Report, error) {
	conn := &programConn{events: newEvents(), p: p, name: name}
	p.mu.Lock()
	p.conns[name] = conn.events
	p.mu.Unlock()
	r, err := p.ask(line.Request{Do: "connect", Conn: name, Connect: &c})
	return conn, r, err
}

func (c *programConn) subscribe(id int, filters []line.Filter) ([]int, error) {
	r, err := c.p.ask(line.Request{Do: "subscribe", Conn: c.name, Filters: filters, SubscriptionID: id})
	return r.Codes, err
}

func (c *programConn) unsubscribe(filters []line.Filter) error {
	_, err := c.p.ask(line.Request{Do: "unsubscribe", Conn: c.name, Filters: filters})
	return err
}

func (c *programConn) publish(messages []line.Message) error {
	_, err := c.p.ask(line.Request{Do: "publish", Conn: c.name, Messages: messages})
	return err
}

func (c *programConn) disconnect(reason int) error {
	c.gone = true
	_, err := c.p.ask(line.Request{Do: "disconnect", Conn: c.name, Reason: reason})
	return err
}

// leave is disconnect for a test that ends and does not care how that goes.
func (c *programConn) leave() {
	if !c.gone {
		c.disconnect(0)
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	delete(c.p.conns, c.name)
}

// kill ends the whole program.
func (c *programConn) kill() { c.p.kill() }

// kill ends the program as a loss of power would, and waits until it is gone.
func (p *program) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// goPrograms builds the client programs in Go, into the module's directory for
// what was built, where the next run finds them made.
var goPrograms = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "bin", "e2e"))
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./pahogolang", "./pahomqttgolang")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// missing fails a test for want of a program where CI is set, and skips it
// elsewhere.
func missing(t testing.TB, what string) {
	t.Helper()
	what = strings.TrimSpace(what)
	if os.Getenv("CI") != "" {
		t.Fatalf("%s; e2e/install.sh installs it", what)
	}
	t.Skipf("%s; e2e/install.sh installs it", what)
}
