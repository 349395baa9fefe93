package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// sysOf are the $SYS values that a gateway would replay, by topic.
func sysOf(g *Gateway) map[string]string {
	g.sys.mu.Lock()
	defer g.sys.mu.Unlock()
	v := make(map[string]string, len(g.sys.values))
	for topic, m := range g.sys.values {
		v[topic] = string(m.Payload)
	}
	return v
}

// TestSysOfCluster: $SYS/broker/… is the cluster on every gateway, and each
// gateway has its own tree, until it is gone.
func TestSysOfCluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2, openStore, func(_ int, o *Options) { o.Timing.Sys = time.Second })
		join(t, cl.nodes[0], "a", durable(1000)).subscribe(1, "x")
		join(t, cl.nodes[0], "b").subscribe(0, "$share/g/x")
		c := join(t, cl.nodes[1], "c")
		for range 3 {
			c.send(publish("nobody", "x", 0, 0))
		}
		join(t, cl.nodes[1], "away", durable(1000)).goodbye()
		time.Sleep(5 * time.Second)
		for i, g := range cl.nodes {
			v := sysOf(g)
			for topic, want := range map[string]string{
				"$SYS/brokers":                                 "g0,g1",
				"$SYS/broker/clients/connected":                "3",
				"$SYS/broker/clients/disconnected":             "1",
				"$SYS/broker/clients/total":                    "4",
				"$SYS/broker/publish/messages/received":        "3",
				"$SYS/broker/subscriptions/count":              "1",
				"$SYS/broker/shared_subscriptions/count":       "1",
				"$SYS/brokers/g0/clients/connected":            "2",
				"$SYS/brokers/g1/clients/connected":            "1",
				"$SYS/brokers/g1/publish/messages/received":    "3",
				"$SYS/brokers/g0/messages/publish/received":    "0",
				"$SYS/broker/load/publish/received/1min":       v["$SYS/broker/load/publish/received/1min"],
				"$SYS/brokers/g0/shared_subscriptions/count":   "1",
				"$SYS/broker/version":                          "sluice version dev",
				"$SYS/broker/messages/retained/count":          "0",
				"$SYS/broker/retained messages/count":          "0",
				"$SYS/broker/messages/subscriptions/count":     "1",
				"$SYS/brokers/g1/messages/subscriptions/count": "0",
			} {
				if got, ok := v[topic]; !ok || got != want {
					t.Errorf("gateway %d: %s is %q, want %q", i, topic, got, want)
				}
			}
			for topic := range v {
				if strings.Contains(topic, "!") || protocol.ValidTopicName(topic) != nil {
					t.Errorf("topic %q", topic)
				}
			}
		}
		cl.kill(1)
		time.Sleep(time.Minute)
		v := sysOf(cl.nodes[0])
		if v["$SYS/brokers"] != "g0" || v["$SYS/broker/clients/connected"] != "2" {
			t.Errorf("%q, %q clients", v["$SYS/brokers"], v["$SYS/broker/clients/connected"])
		}
		for topic := range v {
			if strings.HasPrefix(topic, "$SYS/brokers/g1/") {
				t.Errorf("there still is %s", topic)
			}
		}
	})
}

// TestSysSubscription: the values come as retained messages at once, and then as
// they change; a wildcard at the first level does not see them [MQTT-4.7.2-1].
func TestSysSubscription(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newCluster(t, 1, openStore, func(_ int, o *Options) { o.Timing.Sys = time.Second }).nodes[0]
		time.Sleep(2500 * time.Millisecond) // between two measurements
		c := join(t, g, "c")
		c.subscribe(0, "#", "$SYS/brokers/+/clients/connected", "$SYS/broker/version")
		got := []string{describe(c.next()), describe(c.next())}
		slices.Sort(got)
		if want := []string{"PUBLISH $SYS/broker/version=sluice version dev retained", "PUBLISH $SYS/brokers/g0/clients/connected=0 retained"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		time.Sleep(2 * time.Second)
		c.expect("PUBLISH $SYS/brokers/g0/clients/connected=1")
		c.quiet()
	})
}

// TestSysLoads: a gateway that comes or goes is no load.
func TestSysLoads(t *testing.T) {
	t.Parallel()
	of := func(n uint64) map[string]uint64 { return map[string]uint64{"x": n} }
	type counts = map[backend.NodeID]map[string]uint64
	for _, c := range []struct {
		before, now counts
		want        float64
	}{
		{nil, counts{"a": of(100)}, 0},
		{counts{"a": of(100)}, counts{"a": of(103)}, 3},
		{counts{"a": of(100)}, counts{"a": of(103), "b": of(1000)}, 3},
		{counts{"a": of(100), "b": of(1000)}, counts{"a": of(103)}, 3},
		{counts{"a": of(100)}, counts{"a": of(5)}, 0}, // started again
	} {
		if got := growth(c.before, c.now, "x"); got != c.want {
			t.Errorf("%v to %v: %v, want %v", c.before, c.now, got, c.want)
		}
	}
	s, v := &sysTopics{}, map[string]string{}
	for range 10 {
		s.loadOf("x", 20, 10*time.Second, v)
	}
	if got := v["$SYS/broker/load/x/1min"]; got != "97.33" { // 120·(1-e^(-100/60))
		t.Errorf("after 100 s of 120 a minute: %s", got)
	}
}

// counting is a store that knows how many sessions with an inbox have
// subscriptions, and no more.
type counting struct {
	backend.Store
	n int64
}

func (c counting) DurableSessions() int64 { return c.n }

// TestSessionCount: without a store that counts them all, sessions are those that
// are connected and those with an inbox that are not.
func TestSessionCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		store               int64
		connected, attached uint64
		want                uint64
	}{{0, 0, 0, 0}, {10, 0, 0, 10}, {10, 5, 5, 10}, {10, 7, 4, 13}, {3, 5, 4, 5}} {
		g := &Gateway{store: counting{n: c.store}}
		if got := g.sessionCount(&Stats{}, c.connected, c.attached); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
