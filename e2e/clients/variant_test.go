package clients_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// variant is a client in one protocol version over one transport.
type variant struct {
	client    string // a key of programs, or mosquitto, or chromium
	transport string // tcp or ws
	version   int    // 3, 4 or 5
}

func (v variant) String() string {
	return fmt.Sprintf("%s/%s/v%s", v.client, v.transport, map[int]string{3: "3.1", 4: "3.1.1", 5: "5"}[v.version])
}

// variants is every client in every version and over every transport it has. The
// Mosquitto commands of Debian 12 know no WebSocket, and the plain client of
// paho.golang leaves it to its user.
var variants = func() []variant {
	var all []variant
	for _, c := range []struct {
		client     string
		transports string
		versions   []int
	}{
		{"mosquitto", "tcp", []int{3, 4, 5}},
		{"mqttjs", "tcp ws", []int{3, 4, 5}},
		{"chromium", "ws", []int{3, 4, 5}},
		{"paho.golang", "tcp", []int{5}},
		{"autopaho", "tcp ws", []int{5}},
		{"paho.mqtt.golang", "tcp ws", []int{3, 4}},
		{"paho-python", "tcp ws", []int{3, 4, 5}},
	} {
		for _, transport := range strings.Fields(c.transports) {
			for _, version := range c.versions {
				all = append(all, variant{c.client, transport, version})
			}
		}
	}
	return all
}()

// programs has the clients that are programs which speak package line: how to
// start each, or an error that says what is missing.
var programs = map[string]func() ([]string, error){
	"mqttjs": func() ([]string, error) {
		if err := exec.Command("node", "-e", "require.resolve('./mqttjs/node_modules/mqtt/package.json')").Run(); err != nil {
			return nil, fmt.Errorf("needs node and MQTT.js: %w", err)
		}
		return []string{"node", "mqttjs/client.mjs"}, nil
	},
	"paho-python": func() ([]string, error) {
		if out, err := exec.Command(python, "-c", "import paho.mqtt.client").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("needs python3-paho-mqtt: %w %s", err, out)
		}
		return []string{python, "pahopython/client.py"}, nil
	},
	"paho.golang":      func() ([]string, error) { return goProgram("pahogolang") },
	"autopaho":         func() ([]string, error) { return goProgram("pahogolang", "auto") },
	"paho.mqtt.golang": func() ([]string, error) { return goProgram("pahomqttgolang") },
}

// python is the system's own interpreter, which alone sees Debian's packages.
const python = "/usr/bin/python3"

func goProgram(name string, args ...string) ([]string, error) {
	dir, err := goPrograms()
	return append([]string{filepath.Join(dir, name)}, args...), err
}

// running has one program of each client, which all tests share.
var running struct {
	sync.Mutex
	programs map[string]*program
}

// sharedProgram returns the program that serves all connections of a client.
func sharedProgram(t testing.TB, client string) *program {
	t.Helper()
	running.Lock()
	defer running.Unlock()
	if p := running.programs[client]; p != nil {
		return p
	}
	p := ownProgram(t, client)
	if running.programs == nil {
		running.programs = map[string]*program{}
	}
	running.programs[client] = p
	return p
}

// ownProgram returns a program of its own for a connection that will be killed.
func ownProgram(t testing.TB, client string) *program {
	t.Helper()
	command, err := programs[client]()
	if err != nil {
		missing(t, err.Error())
	}
	p, err := startProgram(command)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// connect connects to the gateway. An empty URL, client id and keep-alive get
// values that suit a test, and Version is that of the variant.
func (v variant) connect(t testing.TB, g *harness.Gateway, c line.Connect) *client {
	t.Helper()
	return v.open(t, g, c, sharedProgram)
}

// machine is a computer of its own, whose power may fail.
type machine struct {
	variant
	program *program // nil where each connection is a process
	clients []*client
}

func (v variant) machine(t testing.TB) *machine {
	t.Helper()
	m := &machine{variant: v}
	if speaksLine(v) {
		m.program = ownProgram(t, v.client)
		t.Cleanup(m.fail)
	}
	return m
}

// connect is variant.connect from this machine.
func (m *machine) connect(t testing.TB, g *harness.Gateway, c line.Connect) *client {
	t.Helper()
	one := m.open(t, g, c, func(testing.TB, string) *program { return m.program })
	m.clients = append(m.clients, one)
	return one
}

// fail ends every connection of the machine without warning.
func (m *machine) fail() {
	if m.program != nil {
		m.program.kill()
	}
	for _, c := range m.clients {
		c.conn.kill()
	}
}

func (v variant) open(t testing.TB, g *harness.Gateway, c line.Connect, program func(testing.TB, string) *program) *client {
	t.Helper()
	c.Version = v.version
	if c.URL == "" {
		c.URL = v.url(t, g)
	}
	if c.ClientID == "" {
		c.ClientID = wire.Unique("c")
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 60
	}
	var conn connection
	var r line.Report
	var err error
	switch v.client {
	case "mosquitto":
		conn, err = openMosquitto(t, c)
	case "chromium":
		conn, err = openPage(t, c)
	default:
		var own *programConn
		own, r, err = program(t, v.client).connect(wire.Unique("conn"), c)
		conn = own
		t.Cleanup(own.leave)
	}
	if err != nil {
		t.Fatalf("%s: connect: %v", v, err)
	}
	return &client{t: t, variant: v, conn: conn, id: c.ClientID, answer: r}
}

func (v variant) url(t testing.TB, g *harness.Gateway) string {
	t.Helper()
	if v.transport == "ws" {
		return g.AnyWS(t)
	}
	return "mqtt://" + g.AnyTCP()
}

// inPage is the client that lives in a browser, which its tests start. commands is
// the others.
func inPage(v variant) bool   { return v.client == "chromium" }
func commands(v variant) bool { return !inPage(v) }

// each runs a test for every variant that the function picks, side by side.
func each(t *testing.T, pick func(variant) bool, test func(*testing.T, variant)) {
	t.Helper()
	ran := false
	for _, v := range variants {
		if !pick(v) {
			continue
		}
		ran = true
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
	if !ran {
		t.Fatal("no variant was picked")
	}
}

// installed returns an error where a client's program is not there.
func installed(client string) error {
	switch client {
	case "mosquitto":
		_, err := exec.LookPath("mosquitto_sub")
		return err
	case "chromium":
		if _, err := findChromium(); err != nil {
			return err
		}
		client = "mqttjs"
	}
	_, err := programs[client]()
	return err
}

// present is the variants of the clients that are installed. Where CI is set they
// all must be.
func present(t *testing.T) []variant {
	t.Helper()
	var all []variant
	for _, v := range variants {
		if err := installed(v.client); err == nil {
			all = append(all, v)
		} else if os.Getenv("CI") != "" {
			t.Fatalf("%s: %v; e2e/install.sh installs it", v, err)
		} else {
			t.Logf("without %s: %v", v, err)
		}
	}
	return all
}
