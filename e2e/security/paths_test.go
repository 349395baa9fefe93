package security_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// world is gateways with a file of rules that can be changed.
type world struct {
	gateways []*harness.Gateway
	acl      string

	mu     sync.Mutex
	rules  string
	probes int
}

// gateway is the one at a place; of a single gateway, that one.
func (w *world) gateway(i int) *harness.Gateway { return w.gateways[i%len(w.gateways)] }

// startWorld starts gateways in which pub may do everything, sub may publish to
// and receive what is below a/.
func startWorld(t *testing.T, cluster bool) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{acl: filepath.Join(dir, "acl"), rules: "user pub\ntopic readwrite #\nuser sub\ntopic readwrite a/#\nuser probe\ntopic write probe/#\n"}
	write(t, w.acl, w.rules)
	users := filepath.Join(dir, "users")
	write(t, users, hashed(t, "pub")+hashed(t, "sub")+hashed(t, "probe"))
	env := []string{"AUTH_PASSWORD_FILE=" + users, "AUTH_ACL_FILE=" + w.acl, "AUTH_RELOAD_INTERVAL=0s", "GATEWAY_LEASE=3s", "MQTT_SYS_INTERVAL=0s"}
	if cluster {
		w.gateways = harness.StartCluster(t, harness.ClusterOptions{Gateways: 3, Env: env}).Gateways
	} else {
		w.gateways = []*harness.Gateway{harness.Start(t, env...)}
	}
	return w
}

// revoke forbids sub something, and returns when every gateway knows.
func (w *world) revoke(t *testing.T, topic string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes++
	probe := fmt.Sprint("probe/", w.probes)
	w.rules += "user sub\ntopic deny " + topic + "\nuser probe\ntopic deny " + probe + "\n"
	write(t, w.acl, w.rules)
	for _, g := range w.gateways {
		g.Signal(t, syscall.SIGHUP)
		c := dial(t, g, as("probe", wire.Unique("probe")))
		eventually(t, "rules are in force", func() bool {
			c.Send(wire.Publish{Topic: probe, QoS: 1, ID: 1})
			return wire.Next[wire.Ack](c).Code == 0x87
		})
		c.Disconnect()
	}
}

// count is a metric of each gateway; of one that was killed it is 0.
func (w *world) count(t *testing.T, metric string) (each []int) {
	t.Helper()
	for _, g := range w.gateways {
		n := 0
		if g.Readiness() == nil {
			n, _ = strconv.Atoi(g.Metric(t, metric))
		}
		each = append(each, n)
	}
	return each
}

// counted waits until a metric is higher than before at some gateway.
func (w *world) counted(t *testing.T, metric string, before []int) {
	t.Helper()
	eventually(t, metric+" is counted", func() bool {
		now := w.count(t, metric)
		for i := range now {
			if now[i] > before[i] {
				return true
			}
		}
		return false
	})
}

// path is one way of a message to, or from, a client in one of its two forms:
// below topic everything is allowed, or all but secret.
type path struct {
	*testing.T
	*world
	topic string
	deny  bool
	at    int // the gateway of publishers
}

// change takes the permission back, unless this is the form in which it stays.
func (p *path) change() {
	p.Helper()
	if p.deny {
		p.revoke(p.T, p.topic+"/secret")
	}
}

// publish publishes to open, secret and zend below the topic, or to what is named.
func (p *path) publish(qos byte, retain bool, names ...string) {
	p.Helper()
	if len(names) == 0 {
		names = []string{"open", "secret", "zend"}
	}
	c := dial(p.T, p.gateway(p.at), as("pub", wire.Unique("pub")))
	for _, name := range names {
		c.PublishPacket(wire.Publish{Topic: p.topic + "/" + name, QoS: qos, Retain: retain, Payload: "x"})
	}
	c.Disconnect()
}

// until reads messages up to the one that was published last, and returns the
// last levels of their topics.
func until(c *wire.Client) (seen []string) {
	aliases := map[int]string{}
	for {
		m := c.Receive()
		if n, ok := m.Props.Int(wire.TopicAliasID); ok {
			if m.Topic == "" {
				m.Topic = aliases[n]
			}
			aliases[n] = m.Topic
		}
		last := m.Topic[strings.LastIndexByte(m.Topic, '/')+1:]
		if seen = append(seen, last); last == "zend" {
			return seen
		}
	}
}

// live is the path of a subscription that is there when it is published.
func live(qos byte, filter string, persistent bool) func(*path) []string {
	return func(p *path) []string {
		c := as("sub", wire.Unique("s"))
		if persistent {
			c = durable(c)
		}
		s := dial(p.T, p.gateway(0), c)
		s.Subscribe(filter+p.topic+"/#", qos)
		if filter != "" && qos == 0 {
			p.at = 0 // elsewhere a group is known a moment later, and QoS 0 does not wait
		}
		p.change()
		p.publish(qos, false)
		return until(s)
	}
}

// replay is that of messages that waited in an inbox when permission changed.
func replay(qos byte) func(*path) []string {
	return func(p *path) []string {
		id := wire.Unique("s")
		s := dial(p.T, p.gateway(0), durable(as("sub", id)))
		s.Subscribe(p.topic+"/#", qos)
		s.Disconnect()
		p.publish(qos, false)
		p.change()
		return until(dial(p.T, p.gateway(1), durable(as("sub", id))))
	}
}

// halfDone is that of messages that were sent, and not acknowledged, before.
func halfDone(qos byte) func(*path) []string {
	return func(p *path) []string {
		id := wire.Unique("s")
		s := dial(p.T, p.gateway(0), durable(as("sub", id)))
		s.Subscribe(p.topic+"/#", qos)
		p.publish(qos, false)
		for range 3 {
			wire.Next[wire.Publish](s)
		}
		s.Drop()
		p.change()
		return until(dial(p.T, p.gateway(1), durable(as("sub", id))))
	}
}

func retained(qos byte) func(*path) []string {
	return func(p *path) []string {
		p.publish(1, true)
		p.change()
		s := dial(p.T, p.gateway(0), as("sub", wire.Unique("s")))
		s.Subscribe(p.topic+"/#", qos)
		return until(s)
	}
}

// serverAlias is that of topics that the gateway has given an alias.
func serverAlias(p *path) []string {
	s := dial(p.T, p.gateway(0), as("sub", wire.Unique("s"), wire.U16Prop(wire.TopicAliasMaximumID, 10)))
	s.Subscribe(p.topic+"/#", 0)
	p.publish(0, false)
	p.publish(0, false)
	for range 6 {
		wire.Next[wire.Publish](s)
	}
	p.change()
	p.publish(0, false)
	var seen []string
	for range 3 { // by alias alone, in the order in which topics came first
		if p.deny && len(seen) == 2 {
			break
		}
		m := s.Receive()
		n, _ := m.Props.Int(wire.TopicAliasID)
		seen = append(seen, []string{"", "open", "secret", "zend"}[n])
	}
	return seen
}

// clientAlias is that of a publish by an alias that was set when it was allowed.
func clientAlias(p *path) []string {
	watch := dial(p.T, p.gateway(1), as("pub", wire.Unique("w")))
	watch.Subscribe(p.topic+"/#", 1)
	s := dial(p.T, p.gateway(0), as("sub", wire.Unique("s")))
	publish := func(topic string, alias uint16) {
		s.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1, Props: wire.Props{wire.U16Prop(wire.TopicAliasID, alias)}})
		wire.Next[wire.Ack](s)
	}
	publish(p.topic+"/secret", 1)
	publish(p.topic+"/open", 2)
	watch.Receive()
	watch.Receive()
	p.change()
	publish("", 2)
	publish("", 1)
	publish(p.topic+"/zend", 3)
	return until(watch)
}

// stored is that of a subscription which its client has lost while it was away,
// or while it was connected.
func stored(away bool) func(*path) []string {
	return func(p *path) []string {
		id := wire.Unique("s")
		s := dial(p.T, p.gateway(0), durable(as("sub", id)))
		for _, name := range []string{"secret", "open", "zend"} {
			s.Subscribe(p.topic+"/"+name, 1)
		}
		if away {
			s.Disconnect()
			p.change()
			s = dial(p.T, p.gateway(1), durable(as("sub", id)))
		} else {
			p.change()
		}
		p.publish(1, false)
		seen := until(s)
		s.Send(wire.Unsub(9, p.topic+"/secret"))
		code := wire.Next[wire.Unsuback](s).Codes[0]
		if want := map[bool]byte{true: 0x11}[p.deny]; code != want {
			p.Errorf("UNSUBACK %#x, want %#x", code, want)
		}
		return seen
	}
}

// will is that of a will to secret, published in some way after the change.
func will(delay uint32, end func(p *path, w *wire.Client, id string)) func(*path) []string {
	return func(p *path) []string {
		watch := dial(p.T, p.gateway(1), as("pub", wire.Unique("w")))
		watch.Subscribe(p.topic+"/#", 1)
		id := wire.Unique("will")
		c := durable(as("sub", id))
		c.Will = &wire.Will{Topic: p.topic + "/secret", QoS: 1, Payload: "x", Props: wire.Props{wire.U32Prop(wire.WillDelayID, delay)}}
		w := dial(p.T, p.gateway(2), c)
		p.change()
		metric := "sluice_wills_published_total"
		if p.deny {
			metric = `sluice_messages_dropped_total{reason="denied"}`
		}
		before := p.count(p.T, metric)
		end(p, w, id)
		p.counted(p.T, metric, before)
		if !p.deny {
			return []string{"open", watch.Receive().Topic[len(p.topic)+1:], "zend"}
		}
		p.publish(1, false, "open", "zend")
		return until(watch)
	}
}

// kill ends the will's gateway, and starts it again when all is over.
func kill(p *path, _ *wire.Client, _ string) {
	p.gateway(2).Kill(p.T)
	p.Cleanup(func() { p.gateway(2).Revive(p.T) })
}

func drop(_ *path, w *wire.Client, _ string) { w.Drop() }

// paths are all ways by which a message reaches somebody on behalf of a client.
var paths = []struct {
	name    string
	cluster bool // there must be another gateway
	run     func(*path) []string
}{
	{"live, QoS 0", false, live(0, "", false)}, {"live, QoS 1", false, live(1, "", false)}, {"live, QoS 2", false, live(2, "", false)},
	{"inbox, QoS 1", false, live(1, "", true)}, {"inbox, QoS 2", false, live(2, "", true)},
	{"shared, QoS 0", false, live(0, "$share/g/", false)}, {"shared, QoS 1", false, live(1, "$share/h/", false)}, {"shared, durable", false, live(2, "$share/i/", true)},
	{"retained, QoS 0", false, retained(0)}, {"retained, QoS 1", false, retained(1)},
	{"replay, QoS 1", false, replay(1)}, {"replay, QoS 2", false, replay(2)},
	{"half done, QoS 1", false, halfDone(1)}, {"half done, QoS 2", false, halfDone(2)},
	{"alias of the server", false, serverAlias}, {"alias of the client", false, clientAlias},
	{"stored subscription, away", false, stored(true)}, {"stored subscription, connected", false, stored(false)},
	{"will", false, will(0, drop)}, {"will, delayed", false, will(1, drop)},
	{"will, taken over elsewhere", true, will(0, func(p *path, _ *wire.Client, id string) { dial(p.T, p.gateway(1), durable(as("sub", id))) })},
	{"will, clean start elsewhere", true, will(3600, func(p *path, _ *wire.Client, id string) { dial(p.T, p.gateway(1), as("sub", id)) })},
	{"will, delayed, gateway killed", true, will(1, kill)},
}

// TestF44EveryPath: what a client may not receive or publish any more reaches
// nobody by any path, and what it may does (V10, V11, V12). Each row runs with the
// permission kept as well, to show that the path is one.
func TestF44EveryPath(t *testing.T) {
	for _, cluster := range []bool{false, true} {
		t.Run(map[bool]string{false: "memory", true: "Redis and NATS"}[cluster], func(t *testing.T) {
			t.Parallel()
			w := startWorld(t, cluster)
			for i, tt := range paths {
				if tt.cluster && !cluster {
					continue
				}
				for _, deny := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, denied %v", tt.name, deny), func(t *testing.T) {
						p := &path{T: t, world: w, topic: fmt.Sprintf("a/%d-%v", i, deny), deny: deny, at: 1}
						seen := tt.run(p)
						if got := slices.Contains(seen, "secret"); got == deny {
							t.Errorf("seen: %q", seen)
						}
						if !slices.Contains(seen, "open") {
							t.Errorf("what is allowed did not come: %q", seen)
						}
					})
				}
			}
		})
	}
}
