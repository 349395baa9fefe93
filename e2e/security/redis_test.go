package security_test

import (
	"os"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestV20RedisUser: gateways work as the user of Redis that docs/redis.md gives
// them, who can touch no key but theirs and nothing of the server, and use no
// command that blocks it or looks at all keys.
func TestV20RedisUser(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(page), "ACL SETUSER sluice ")
	line, _, _ = strings.Cut(line, "\n")
	if !ok || !strings.Contains(line, ">PASSWORD") {
		t.Fatalf("docs/redis.md has no user: %q", line)
	}
	user := append([]string{"--user", "sluice"}, strings.Fields(strings.Replace(line, ">PASSWORD", ">"+secretName, 1))...)
	c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 2, Redis: user,
		Env: []string{"REDIS_USERNAME=sluice", "REDIS_PASSWORD=" + secretName, "GATEWAY_LEASE=3s", "GATEWAY_INBOX_POLL=1s"}})
	plain := func(id string) wire.Connect { return wire.Connect{Version: wire.V5, ClientID: id, Clean: true} }
	s := dial(t, c.Gateways[0], durable(plain("s")))
	for _, filter := range []string{"a/#", "$share/g/a/#", "will"} {
		s.Subscribe(filter, 2)
	}
	w := plain("w")
	w.Will = &wire.Will{Topic: "will", QoS: 1, Payload: "gone"}
	dial(t, c.Gateways[1], w).Drop()
	if m := s.Receive(); m.Topic != "will" {
		t.Errorf("got %+v", m)
	}
	s.Disconnect()
	p := dial(t, c.Gateways[1], plain("p"))
	for qos := range byte(3) {
		p.PublishPacket(wire.Publish{Topic: "a/x", QoS: qos, Retain: true, Payload: "x"})
	}
	s = dial(t, c.Gateways[1], durable(plain("s")))
	for range 4 { // QoS 1 and 2, to each of the two subscriptions
		s.Receive()
	}
	s.Unsubscribe("a/#")
	dial(t, c.Gateways[0], plain("s")).Disconnect() // clean start
	for _, g := range c.Gateways {
		if strings.Contains(g.Logs(), "NOPERM") || strings.Contains(g.Logs(), secretName) {
			t.Errorf("the log:\n%s", g.Logs())
		}
	}
	used := c.Redis.Do(t, "INFO commandstats")
	if !strings.Contains(used, "cmdstat_evalsha:") {
		t.Fatalf("commands used: %s", used)
	}
	for _, command := range []string{"keys", "flushall", "flushdb", "blpop", "brpop", "blmove", "bzpopmin", "bzpopmax", "xread", "xreadgroup", "subscribe", "monitor", "debug", "config|set", "function|load"} {
		if strings.Contains(used, "cmdstat_"+command+":") {
			t.Errorf("%s is used", command)
		}
	}
}
