package gateway

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// counted are the figures of a gateway that are not 0, as "name label,…=n".
func counted(g *Gateway, prefix string) []string {
	found := map[string]bool{}
	for _, f := range g.Figures() {
		for _, v := range f.Values {
			if v.Number != 0 && strings.HasPrefix(f.Name, prefix) {
				found[fmt.Sprintf("%s %s=%v", strings.TrimSuffix(f.Name, "_total"), strings.Join(v.Labels, ","), v.Number)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func wantCounted(t *testing.T, g *Gateway, prefix string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := counted(g, prefix); !slices.Equal(got, want) {
		t.Errorf("counted:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestWillCauses: wills are counted by why the connection ended.
func TestWillCauses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t)
		w := will(protocol.Will{Topic: "w", Payload: []byte("x"), QoS: 1})
		join(t, g, "broken", w).cut()
		quiet := join(t, g, "quiet", w, keepAlive(1))
		time.Sleep(2 * time.Second)
		quiet.expect("DISCONNECT 0x8D", "closed")
		join(t, g, "twice", w)
		join(t, g, "twice").goodbye()
		asks := join(t, g, "asks", w)
		asks.send(&protocol.Disconnect{Code: protocol.DisconnectWithWill})
		asks.expect("closed")
		join(t, g, "kicked", w)
		g.Disconnect("kicked", protocol.AdministrativeAction, "test")
		join(t, g, "later", durable(60), will(protocol.Will{Topic: "w", QoS: 1, Delay: 5})).cut()
		time.Sleep(10 * time.Second)
		wantCounted(t, g, "wills_", "wills_by_cause connection_lost=1", "wills_by_cause keep_alive=1", "wills_by_cause taken_over=1",
			"wills_by_cause disconnect_with_will=1", "wills_by_cause server=1", "wills_by_cause later=1")
	})
}

// TestChoreCounts: what is taken on is counted, done or failed.
func TestChoreCounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 1)
		g := cl.nodes[0]
		join(t, g, "c", durable(60), will(protocol.Will{Topic: "w", QoS: 1, Delay: 5})).cut()
		time.Sleep(time.Second)
		cl.stores[0].fault(func(call string) error {
			if call == "Append" {
				return unavailable(call)
			}
			return nil
		})
		time.Sleep(5 * time.Second)
		wantCounted(t, g, "chores_", "chores_taken will=1", "chores_failed will=1")
		cl.stores[0].mend()
		time.Sleep(2*backend.ChoreClaim + 2*time.Minute)
		wantCounted(t, g, "chores_", "chores_taken will=2", "chores_failed will=1", "chores_done will=1",
			"chores_taken session_ended=1", "chores_done session_ended=1")
	})
}

// TestDenialCounts: what the authorizer does not allow is counted by action, and
// apart what it could not tell.
func TestDenialCounts(t *testing.T) {
	t.Parallel()
	r := &rules{}
	r.deny(ErrNotAuthorized, "c publish no", "c subscribe no")
	r.deny(fmt.Errorf("test: no answer"), "c publish unknown")
	g := newGateway(t, func(o *Options) { o.Authorizer = r })
	c := join(t, g, "c")
	c.send(publish("no", "x", 1, 1), publish("unknown", "x", 1, 2), subscribePacket(3, 0, "no"))
	c.expect("PUBACK #1 0x87", "PUBACK #2 0x87", "SUBACK #3 0x87")
	wantCounted(t, g, "authorization_", "authorization_denials publish,denied=1", "authorization_denials publish,failed=1",
		"authorization_denials subscribe,denied=1")
}

// TestSharedCounts: messages for shared groups are counted once, however many
// members there are, and those that a member left apart.
func TestSharedCounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t)
		one, two := join(t, g, "one"), join(t, g, "two")
		one.subscribe(1, "$share/g/a")
		two.subscribe(1, "$share/g/a")
		p := join(t, g, "p")
		for i := range uint16(4) {
			p.send(publish("a", "x", 1, i+1))
		}
		time.Sleep(time.Second)
		one.cut() // with two that it has not acknowledged
		time.Sleep(time.Second)
		if err := g.Publish(context.Background(), &backend.Message{Topic: "nobody", QoS: 1}); err != nil {
			t.Error(err)
		}
		wantCounted(t, g, "shared_", "shared_messages =6", "shared_messages_requeued =2")
	})
}
