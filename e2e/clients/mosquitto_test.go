package clients_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

// mosquitto is a connection made of the Mosquitto commands: mosquitto_sub holds it
// from subscribe on, and every publish is a mosquitto_pub with a connection of its
// own. So connect sends nothing, one subscribe is all there can be, and whether a
// session was present stays unknown.
type mosquitto struct {
	*events
	connect line.Connect
	codes   chan []int // of the SUBACK
	sub     *exec.Cmd  // nil before subscribe
	ended   chan struct{}
	once    sync.Once
}

func openMosquitto(t testing.TB, c line.Connect) (*mosquitto, error) {
	t.Helper()
	for _, command := range []string{"mosquitto_sub", "mosquitto_pub"} {
		if _, err := exec.LookPath(command); err != nil {
			missing(t, "needs "+command)
		}
	}
	m := &mosquitto{events: newEvents(), connect: c, codes: make(chan []int, 1), ended: make(chan struct{})}
	t.Cleanup(m.kill)
	return m, nil
}

// server is the options that both commands need.
func (m *mosquitto) server() []string {
	u, err := url.Parse(m.connect.URL)
	if err != nil {
		panic(err) // the tests made it
	}
	return []string{
		"-h", u.Hostname(), "-p", u.Port(),
		"-V", map[int]string{3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}[m.connect.Version],
	}
}

// messageLine is the output of mosquitto_sub for a message, told from its other
// output by the first word.
const messageLine = `message\t%q\t%r\t%F\t%E\t%C\t%R\t%D\t%S\t%P\t%x\t%t`

func (m *mosquitto) subscribe(id int, filters []line.Filter) ([]int, error) {
	if m.sub != nil {
		return nil, errors.New("mosquitto_sub subscribes once")
	}
	c := m.connect
	args := append(m.server(), "-d", "-F", messageLine, "-i", c.ClientID, "-k", fmt.Sprint(c.KeepAlive), "-q", fmt.Sprint(filters[0].QoS))
	if !c.Clean {
		args = append(args, "-c")
	}
	if c.Expiry > 0 && c.Version == 5 {
		args = append(args, "-x", fmt.Sprint(c.Expiry))
	}
	if id != 0 && c.Version == 5 {
		args = append(args, "-D", "subscribe", "subscription-identifier", fmt.Sprint(id))
	}
	if w := c.Will; w != nil {
		args = append(args, "--will-topic", w.Topic, "--will-payload", string(w.Payload), "--will-qos", fmt.Sprint(w.QoS))
		if w.Retain {
			args = append(args, "--will-retain")
		}
		args = append(args, properties(c.Version, "will", w.Properties)...)
		if c.WillDelay > 0 && c.Version == 5 {
			args = append(args, "-D", "will", "will-delay-interval", fmt.Sprint(c.WillDelay))
		}
	}
	for _, f := range filters {
		if f.QoS != filters[0].QoS {
			return nil, errors.New("mosquitto_sub has one QoS for all its filters")
		}
		if f.RetainAsPublished {
			args = append(args, "--retain-as-published")
		}
		if f.NoLocal || f.RetainHandling != 0 {
			return nil, errors.New("this test does not ask mosquitto_sub for more options")
		}
		args = append(args, "-t", f.Filter)
	}
	// stdbuf because mosquitto_sub would keep what it says in a buffer.
	m.sub = exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...)
	m.sub.Stderr = os.Stderr
	stdout, err := m.sub.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.sub.Start(); err != nil {
		return nil, err
	}
	go m.listen(stdout) // until mosquitto_sub ends
	select {
	case codes := <-m.codes:
		return codes, nil
	case <-m.ended:
		return nil, errors.New("mosquitto_sub ended before SUBACK")
	case <-time.After(patience):
		return nil, errors.New("mosquitto_sub: no SUBACK")
	}
}

var (
	granted      = regexp.MustCompile(`^Subscribed \(mid: \d+\): ([\d, ]+)`)
	gotPublish   = regexp.MustCompile(`^Client .* received PUBLISH \(d(\d)`)
	gotDisconnet = regexp.MustCompile(`^Client .* received DISCONNECT \((\d+)\)`)
)

func (m *mosquitto) listen(stdout io.Reader) {
	lines := bufio.NewReader(stdout)
	var dup bool
	var reason int
	for {
		text, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		text = strings.TrimSuffix(text, "\n")
		if found := granted.FindStringSubmatch(text); found != nil {
			var codes []int
			for _, code := range strings.Split(found[1], ", ") {
				codes = append(codes, number(code))
			}
			m.codes <- codes
		} else if found := gotPublish.FindStringSubmatch(text); found != nil {
			dup = found[1] == "1"
		} else if found := gotDisconnet.FindStringSubmatch(text); found != nil {
			reason = number(found[1])
		} else if fields, ok := strings.CutPrefix(text, "message\t"); ok {
			got := parseMessage(strings.SplitN(fields, "\t", 11))
			got.Dup = dup
			m.add(line.Report{Message: &got})
		}
	}
	m.sub.Wait()
	m.add(line.Report{Down: true, Reason: reason})
	close(m.ended)
}

// parseMessage reads the fields of messageLine.
func parseMessage(f []string) line.Message {
	payload, err := hex.DecodeString(f[9])
	if err != nil {
		panic(err)
	}
	p := line.Properties{PayloadFormat: number(f[2]), Expiry: number(f[3]), ContentType: f[4], ResponseTopic: f[5], Correlation: []byte(f[6])}
	if f[7] != "" {
		p.SubscriptionIDs = []int{number(f[7])}
	}
	for _, pair := range strings.Fields(f[8]) {
		name, value, _ := strings.Cut(pair, ":")
		p.User = append(p.User, [2]string{name, value})
	}
	return line.Message{Topic: f[10], Payload: payload, QoS: number(f[0]), Retain: f[1] == "1", Properties: &p}
}

// number reads what mosquitto_sub printed; nothing is 0.
func number(s string) int {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func properties(version int, packet string, p *line.Properties) []string {
	if p == nil || version != 5 {
		return nil
	}
	var args []string
	add := func(name string, values ...string) { args = append(append(args, "-D", packet, name), values...) }
	if p.PayloadFormat != 0 {
		add("payload-format-indicator", fmt.Sprint(p.PayloadFormat))
	}
	if p.Expiry != 0 {
		add("message-expiry-interval", fmt.Sprint(p.Expiry))
	}
	if p.ContentType != "" {
		add("content-type", p.ContentType)
	}
	if p.ResponseTopic != "" {
		add("response-topic", p.ResponseTopic)
	}
	if len(p.Correlation) > 0 {
		add("correlation-data", string(p.Correlation))
	}
	for _, pair := range p.User {
		add("user-property", pair[0], pair[1])
	}
	return args
}

// publish runs one mosquitto_pub for all messages where they differ in nothing but
// a payload of one line, else one for each.
func (m *mosquitto) publish(messages []line.Message) error {
	alike := true
	for _, one := range messages {
		first := messages[0]
		alike = alike && one.Topic == first.Topic && one.QoS == first.QoS && one.Retain == first.Retain &&
			one.Properties == nil && len(one.Payload) > 0 && bytes.IndexByte(one.Payload, '\n') < 0
	}
	if !alike || len(messages) == 1 {
		for _, one := range messages {
			if err := m.pub(one, one.Payload, "-s"); err != nil {
				return err
			}
		}
		return nil
	}
	var lines []byte
	for _, one := range messages {
		lines = append(append(lines, one.Payload...), '\n')
	}
	return m.pub(messages[0], lines, "-l")
}

func (m *mosquitto) pub(message line.Message, input []byte, mode string) error {
	if len(input) == 0 {
		mode = "-n"
	}
	args := append(m.server(), mode, "-t", message.Topic, "-q", fmt.Sprint(message.QoS))
	if message.Retain {
		args = append(args, "-r")
	}
	args = append(args, properties(m.connect.Version, "publish", message.Properties)...)
	pub := exec.Command("mosquitto_pub", args...)
	pub.Stdin = bytes.NewReader(input)
	if out, err := pub.CombinedOutput(); err != nil {
		return fmt.Errorf("mosquitto_pub %v: %w %s", args, err, out)
	}
	return nil
}

func (m *mosquitto) unsubscribe([]line.Filter) error {
	return errors.New("mosquitto_sub unsubscribes only as it starts")
}

// disconnect has mosquitto_sub send DISCONNECT, and waits until it has ended.
func (m *mosquitto) disconnect(reason int) error {
	if reason != 0 {
		return errors.New("mosquitto_sub disconnects with reason 0 only")
	}
	return m.end(syscall.SIGTERM)
}

func (m *mosquitto) kill() { m.end(syscall.SIGKILL) }

func (m *mosquitto) end(signal syscall.Signal) error {
	if m.sub == nil || m.sub.Process == nil {
		return nil
	}
	var err error
	m.once.Do(func() { err = m.sub.Process.Signal(signal) })
	select {
	case <-m.ended:
	case <-time.After(patience):
		m.sub.Process.Kill()
		return errors.New("mosquitto_sub did not end")
	}
	return err
}
