// Package compose_test brings docker-compose.yml up in a Docker engine of its
// own: what a user sees who runs docker-compose up. It needs root on Linux, and
// e2e/compose/run around it:
//
//	make compose-test
package compose_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/chaos"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// begin returns the project, images made, nothing started.
func begin(t *testing.T) *project {
	t.Helper()
	if os.Getenv("COMPOSE_TEST") == "" {
		t.Skip("make compose-test runs it")
	}
	return &project{engine: startEngine(t)}
}

// TestCompose is one long story, since a start takes its time: each part goes
// on from where the last one ended.
func TestCompose(t *testing.T) {
	p := begin(t)
	// The figures of the drain are for people; what is tried is its order.
	p.env = append(p.env, "GATEWAY_DRAIN=2s")
	part := func(name string, run func(*project)) {
		if t.Failed() {
			return
		}
		t.Run(name, func(t *testing.T) {
			e := *p.engine
			e.t = t
			one := &project{&e, p.command}
			t.Cleanup(func() {
				if t.Failed() {
					one.explain()
				}
			})
			run(one)
		})
	}
	part("both commands take the file", func(q *project) { p.command = takeFile(q) })
	part("build", build)
	part("image", checkImage)
	part("one gateway", func(p *project) { p.up(1); roundTrip(p, "one") })
	part("three gateways", func(p *project) { p.up(3); spread(p) })
	part("address of the client", clientAddress)
	part("client matrix", clientMatrix)
	part("a gateway is killed", killOne)
	part("rolling restart", rollingRestart)
	part("down keeps sessions", downAndUp)
	part("one process with everything in memory", inMemory)
}

// explain logs what the containers said.
func (p *project) explain() {
	out, _ := p.try("docker", "ps", "-a")
	p.t.Log(out)
	all, _ := p.try("docker", "ps", "-aq")
	for _, id := range strings.Fields(all) {
		p.t.Logf("%s:\n%s", id, tail(p.logs(id), 6000))
	}
}

// takeFile has each of the two commands that is installed read the file, which
// must make neither complain, and returns the first.
func takeFile(p *project) []string {
	var first []string
	for _, command := range [][]string{{"docker-compose"}, {"docker", "compose"}} {
		if _, err := p.try(command[0], append(command[1:], "version")...); err != nil {
			p.t.Logf("without %s", strings.Join(command, " "))
			continue
		}
		if first == nil {
			first = command
		}
		if out := p.run(command[0], append(command[1:], "config", "-q")...); out != "" {
			p.t.Errorf("%s complains:\n%s", strings.Join(command, " "), out)
		}
	}
	if first == nil {
		missing(p.t, "docker-compose")
	}
	return first
}

func build(p *project) {
	makeImages(p.engine, p.compose("config"))
	p.with("VERSION=v0.0.0-of-the-test").compose("build", "gateway")
}

// checkImage: what the Dockerfile promises.
func checkImage(p *project) {
	if got := p.docker("run", "--rm", "sluice", "version"); !strings.HasPrefix(got, "sluice v0.0.0-of-the-test go1.") {
		p.t.Errorf("version: %q", got)
	}
	if user := p.docker("inspect", "--format", "{{.Config.User}}", "sluice"); user != "65532:65532" {
		p.t.Errorf("user %q", user)
	}
	if out, err := p.try("docker", "run", "--rm", "--entrypoint", "/bin/sh", "sluice", "-c", "true"); err == nil {
		p.t.Errorf("there is a shell: %s", out)
	}
	// Nobody is let in who was not asked for, and the line says how to ask.
	out, err := p.try("docker", "run", "--rm", "sluice")
	if err == nil || !strings.Contains(out, "AUTH_ANONYMOUS=true") || strings.Count(strings.TrimSpace(out), "\n") > 2 {
		p.t.Errorf("without variables: %v\n%s", err, out)
	}
	id := p.docker("create", "sluice")
	listing := p.run("sh", "-c", "docker export "+id+" | tar -t")
	for _, file := range []string{"gateway", "etc/ssl/certs/ca-certificates.crt"} {
		if !strings.Contains(listing, file+"\n") {
			p.t.Errorf("no %s in the image", file)
		}
	}
	p.docker("rm", id)
}

// roundTrip publishes to itself through the balancer, over TCP and WebSocket.
func roundTrip(p *project, name string) {
	t := p.t
	t.Helper()
	topic := wire.Unique(name)
	tcp := wire.Dial(t, mqttAddress).Connect(wire.Connect{Clean: true, ClientID: wire.Unique("tcp"), KeepAlive: 60})
	tcp.Subscribe(topic, 1)
	ws := wire.DialWS(t, wsURL).Connect(wire.Connect{Version: wire.V5, Clean: true, ClientID: wire.Unique("ws"), KeepAlive: 60})
	ws.Publish(topic, 1, "from a page")
	if m := tcp.Receive(); m.Payload != "from a page" {
		t.Errorf("got %q", m.Payload)
	}
	ws.Disconnect()
	tcp.Disconnect()
}

// spread: new clients are on all gateways, and hear each other.
func spread(p *project) {
	t := p.t
	topic := wire.Unique("spread")
	var all []*wire.Client
	for range 9 {
		c := wire.Dial(t, mqttAddress).Connect(wire.Connect{Clean: true, ClientID: wire.Unique("spread"), KeepAlive: 60})
		c.Subscribe(topic, 1)
		all = append(all, c)
	}
	for _, id := range p.containers("gateway") {
		if figures := p.fetch(id, "/metrics"); !strings.Contains(figures, "\nsluice_subscriptions 3\n") {
			t.Errorf("gateway %s does not have 3 of 9 clients", id[:12])
		}
	}
	all[0].Publish(topic, 1, "hello")
	for _, c := range all {
		if m := c.Receive(); m.Payload != "hello" {
			t.Errorf("got %q", m.Payload)
		}
		c.Disconnect()
	}
}

// clientAddress: the log has the address of the client, not of the balancer,
// over both ports, and the balancer's header is understood.
func clientAddress(p *project) {
	const own, balancer = "172.30.83.77", "172.30.83.10"
	// From this machine everything comes through the bridge.
	bridge := p.docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", p.containers("haproxy")[0])
	p.docker("run", "--rm", "--network", "sluice_default", "--ip", own, clientImage,
		"mosquitto_pub", "-h", "haproxy", "-i", "far-away", "-t", "a", "-m", "b", "-q", "1")
	page := wire.DialWS(p.t, wsURL).Connect(wire.Connect{Clean: true, ClientID: "a-page", KeepAlive: 60})
	page.Disconnect()
	all := ""
	for _, id := range p.containers("gateway") {
		all += p.logs(id)
	}
	for client, address := range map[string]string{"far-away": own, "a-page": bridge} {
		if !strings.Contains(all, fmt.Sprintf(`client=%s user="" remote=%s:`, client, address)) {
			p.t.Errorf("%s is not logged with %s", client, address)
		}
	}
	if strings.Contains(all, "remote="+balancer) {
		p.t.Error("a client is logged with the address of the balancer")
	}
	if p.t.Failed() {
		p.t.Log(tail(all, 4000))
	}
}

// clientMatrix runs the tests of package clients through the balancer.
func clientMatrix(p *project) {
	cmd := exec.Command(os.Getenv("CLIENTS_TEST"), "-test.run", "^(TestMatrix|TestQueuedMessages|TestTakeover)$", "-test.timeout", "5m")
	cmd.Dir = filepath.Join(p.root, "e2e", "clients")
	cmd.Env = append(os.Environ(), "E2E_TCP="+mqttAddress, "E2E_WS="+wsURL)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v\n%s", err, tail(string(out), 8000))
	}
	p.t.Log(tail(string(out), 300))
}

// load has durable subscribers and publishers of both versions connect through
// the balancer, again and again; what they saw is checked by end.
func load(p *project) (end func()) {
	run := chaos.NewRun(mqttAddress)
	p.t.Cleanup(run.Close)
	for i, version := range []wire.Version{wire.V311, wire.V5} {
		run.Subscribe(chaos.Subscriber{Name: fmt.Sprint("sub", i), Version: version, Filters: []wire.Filter{{Topic: run.Topic("#"), Options: 2}}})
	}
	if !run.AwaitSubscribed(time.Minute) {
		p.t.Fatal("not everybody could subscribe")
	}
	for i, version := range []wire.Version{wire.V311, wire.V5, wire.V311} {
		name := fmt.Sprint("pub", i)
		run.Publish(chaos.Publisher{Name: name, Version: version, Topics: []string{run.Topic(name)}, QoS: []byte{1, 2}, Every: 20 * time.Millisecond})
	}
	return func() {
		p.t.Helper()
		report := run.Settle(90*time.Second, 2*time.Second)
		p.t.Log(report)
		if report.Acked < 100 || report.Failed() {
			p.t.Errorf("%v\n%s", report, strings.Join(report.Findings, "\n"))
		}
		run.Close()
	}
}

// killOne kills one gateway of three by signal, under load. The engine starts
// it again.
func killOne(p *project) {
	end := load(p)
	time.Sleep(time.Second) // of publishing
	victim := p.containers("gateway")[0]
	if err := syscall.Kill(p.pid(victim), syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	p.eventually("restart", 30*time.Second, func() error {
		if n := p.docker("inspect", "--format", "{{.RestartCount}}", victim); n == "0" {
			return fmt.Errorf("%s restarts", n)
		}
		return nil
	})
	p.awaitHealthy("gateway", 3)
	p.awaitBalanced(3)
	end()
}

// rollingRestart stops and starts one gateway after the other, as
// docs/operations.md says, under load.
func rollingRestart(p *project) {
	end := load(p)
	for _, id := range p.containers("gateway") {
		p.docker("stop", "-t", "40", id)
		if code := p.docker("inspect", "--format", "{{.State.ExitCode}}", id); code != "0" {
			p.t.Errorf("%s left with %s:\n%s", id[:12], code, tail(p.logs(id), 2000))
		}
		p.docker("start", id)
		p.awaitHealthy("gateway", 3)
		p.awaitBalanced(3)
	}
	end()
}

// downAndUp: what durable sessions have is in the volume.
func downAndUp(p *project) {
	t := p.t
	topic, name := wire.Unique("kept"), wire.Unique("kept")
	durable := wire.Connect{Version: wire.V5, ClientID: name, KeepAlive: 60, Props: wire.Props{wire.U32Prop(wire.SessionExpiryID, 3600)}}
	c := wire.Dial(t, mqttAddress).Connect(durable)
	c.Subscribe(topic, 1)
	c.Disconnect()
	other := wire.Dial(t, mqttAddress).Connect(wire.Connect{Clean: true, ClientID: wire.Unique("other"), KeepAlive: 60})
	other.Publish(topic, 1, "see you")
	other.Disconnect()
	p.compose("down")
	if left := p.docker("ps", "-aq"); left != "" {
		t.Errorf("left by down: %s", left)
	}
	p.up(1)
	c = wire.Dial(t, mqttAddress).Connect(durable)
	if !c.Connack.SessionPresent {
		t.Error("the session is gone")
	}
	if m := c.Receive(); m.Payload != "see you" {
		t.Errorf("got %q", m.Payload)
	}
	c.Disconnect()
	p.compose("down", "-v")
}

// inMemory: one container, which is enough.
func inMemory(p *project) {
	p.with("GATEWAY_BACKEND=memory", "GATEWAY_STORE=memory").compose("up", "-d", "gateway")
	p.awaitHealthy("gateway", 1)
	if all := strings.Fields(p.docker("ps", "-aq")); len(all) != 1 {
		p.t.Errorf("%d containers", len(all))
	}
	id := p.containers("gateway")[0]
	c := wire.Dial(p.t, p.published(id, "1883")).Connect(wire.Connect{Clean: true, ClientID: "alone", KeepAlive: 60})
	c.Subscribe("a", 2)
	c.Publish("a", 2, "b")
	if m := c.Receive(); m.Payload != "b" {
		p.t.Errorf("got %q", m.Payload)
	}
	c.Disconnect()
	if log := p.logs(id); !strings.Contains(log, "backend=memory store=memory") || strings.Contains(log, "level=WARN") {
		p.t.Errorf("log:\n%s", log)
	}
	p.compose("down")
}
