package harness

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Gateway is a running gateway, or the brokers named by E2E_TCP.
type Gateway struct {
	// TCP is host:port of MQTT over TCP.
	TCP string
	// WS is the URL of MQTT over WebSocket, ws://host:port/mqtt.
	WS string
	// HTTP is the base URL of health, metrics and API, http://host:port.
	HTTP string

	path     string     // of the binary
	env      []string   // of the process
	starts   int        // of the process
	process  *process   // nil for a broker that runs already
	members  []*Gateway // of a cluster that is used as one
	cluster  []string   // all TCP addresses
	clusterW []string   // all WebSocket URLs
}

// AnyTCP returns a TCP address to connect to: of a cluster, any one.
func (g *Gateway) AnyTCP() string { return g.cluster[rand.IntN(len(g.cluster))] }

// AnyWS returns a WebSocket URL: of a cluster, any one. The test is skipped
// where the broker under test has none.
func (g *Gateway) AnyWS(t testing.TB) string {
	t.Helper()
	if len(g.clusterW) == 0 {
		t.Skip("E2E_WS is not set")
	}
	return g.clusterW[rand.IntN(len(g.clusterW))]
}

// External reports whether the broker under test was not started here, so
// that it can be neither configured nor stopped.
func (g *Gateway) External() bool { return g.process == nil }

// Start starts a gateway on free loopback ports, with variables like
// "MQTT_MAX_QOS=1" added to its environment, and waits until it is ready. When
// the test ends the gateway is stopped; unless it was killed, it must leave
// with exit code 0. With E2E_TCP a test that sets variables is skipped and
// others get that broker. With E2E_CLUSTER the variables are those of a cluster.
func Start(t testing.TB, env ...string) *Gateway {
	t.Helper()
	if g := external(); g != nil {
		if len(env) > 0 {
			t.Skip("needs a gateway of its own, and E2E_TCP is set")
		}
		return g
	}
	g, err := startAny(env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.finish(t) })
	return g
}

// startAny starts a gateway, or with E2E_CLUSTER=n as many as one.
func startAny(env []string) (*Gateway, error) {
	text := os.Getenv("E2E_CLUSTER")
	if text == "" {
		return start(env)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 9 {
		return nil, fmt.Errorf("harness: E2E_CLUSTER=%s: allowed are 1 to 9", text)
	}
	return startMembers(n, env)
}

// each returns the gateways behind g: itself, unless it is a cluster.
func (g *Gateway) each() []*Gateway {
	if len(g.members) > 0 {
		return g.members
	}
	return []*Gateway{g}
}

// finish stops what still runs at the end of a test.
func (g *Gateway) finish(t testing.TB) {
	t.Helper()
	for _, g := range g.each() {
		g.process.cmd.Process.Signal(syscall.SIGCONT) // in case it is paused
		if err := g.process.stop(); err != nil {
			t.Error(err)
		}
		if strings.Contains(g.process.log.String(), "WARNING: DATA RACE") { // a killed process does not say so by its exit code
			t.Error("the race detector found something")
		}
		if t.Failed() {
			t.Logf("log of the gateway %s:\n%s", g.TCP, g.process.log.tail())
		}
	}
}

// shared is the gateway of this test process.
var shared struct {
	sync.Mutex
	gateway *Gateway
	err     error
}

// Shared returns a gateway with default settings that all tests of the package
// use together. Tests must not disturb each other: names from wire.Unique. Its
// log goes to the output of the first test that fails.
func Shared(t testing.TB) *Gateway {
	t.Helper()
	if g := external(); g != nil {
		return g
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.gateway == nil && shared.err == nil {
		shared.gateway, shared.err = startAny(nil)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, g := range shared.gateway.each() {
				t.Logf("new in the log of the shared gateway:\n%s", g.process.log.news())
			}
		}
	})
	return shared.gateway
}

// Main runs the tests of a package, stops the shared gateway and exits. A
// gateway that dies on the way, or does not leave with exit code 0 (the race
// detector sees to that), fails the package.
//
// Unless -parallel is given, 32 tests run at a time: they wait more than they
// compute.
func Main(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "32")
	}
	built.allowed = true
	code := m.Run()
	if shared.gateway != nil {
		for _, g := range shared.gateway.each() {
			if err := g.process.stop(); err != nil {
				fmt.Fprintf(os.Stderr, "shared gateway: %v\n%s\n", err, g.process.log.tail())
				code = max(code, 1)
			}
		}
	}
	for _, s := range []*Server{services.redis, services.nats} {
		if s != nil && s.process != nil {
			s.process.kill()
		}
	}
	if services.dir != "" {
		os.RemoveAll(services.dir)
	}
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// external is the broker named by the environment, or nil.
func external() *Gateway {
	tcp := list("E2E_TCP")
	if len(tcp) == 0 {
		return nil
	}
	g := &Gateway{TCP: tcp[0], cluster: tcp, clusterW: list("E2E_WS")}
	if len(g.clusterW) > 0 {
		g.WS = g.clusterW[0]
	}
	if http := list("E2E_HTTP"); len(http) > 0 {
		g.HTTP = http[0]
	}
	return g
}

func list(name string) []string {
	return strings.FieldsFunc(os.Getenv(name), func(r rune) bool { return r == ',' || r == ' ' })
}
