package clients_test

import (
	"fmt"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestSharedSubscription spreads messages over a group: every message to one
// member, no member left out, and everything to those who are left when one goes
// (MQTT 5, 4.8.2).
func TestSharedSubscription(t *testing.T) {
	g := harness.Shared(t)
	five := func(v variant) bool { return v.version == 5 && commands(v) }
	each(t, five, func(t *testing.T, v variant) {
		topic := wire.Unique("shared")
		group := filter("$share/"+wire.Unique("group")+"/"+topic+"/#", 1)
		publisher := v.connect(t, g, line.Connect{Clean: true})
		var members []*client
		for range 3 {
			c := v.connect(t, g, line.Connect{Clean: true})
			c.subscribe(group)
			members = append(members, c)
		}
		type got struct {
			member  int
			topic   string
			message string
		}
		arrived := make(chan got, 400)
		for i, c := range members {
			go func() { // ends with the connection
				for {
					r, err := c.conn.event()
					if err != nil || r.Message == nil {
						return
					}
					arrived <- got{i, r.Message.Topic, string(r.Message.Payload)}
				}
			}()
		}
		// round publishes sixty messages and returns how many each member got.
		round := func(name string) [3]int {
			t.Helper()
			var counts [3]int
			seen := map[string]bool{}
			publisher.publish(numbered(topic+"/"+name, 1, 60)...)
			for len(seen) < 60 {
				one := <-arrived
				if one.topic != topic+"/"+name {
					continue // what a member had not acknowledged when it went
				}
				if seen[one.message] {
					t.Fatalf("%s: message %s came twice", name, one.message)
				}
				seen[one.message] = true
				counts[one.member]++
			}
			return counts
		}
		// Another gateway may hear of a member a moment after its SUBACK: that
		// gateway hands everything to those it knows.
		counts := round("three")
		for i := 0; i < 20 && min(counts[0], counts[1], counts[2]) == 0; i++ {
			counts = round(fmt.Sprint("three, again ", i))
		}
		if min(counts[0], counts[1], counts[2]) == 0 {
			t.Errorf("members got %v messages", counts)
		}
		members[0].disconnect()
		members[0] = v.connect(t, g, line.Connect{ClientID: members[0].id, Clean: true}) // or takes over what is left of it
		if counts := round("two"); counts[0] != 0 || min(counts[1], counts[2]) == 0 {
			t.Errorf("after the first went, members got %v messages", counts)
		}
		for _, c := range append(members, publisher) {
			c.disconnect()
		}
	})
}

// TestSharedAndRetained expects a shared subscription to get no retained messages
// when it is made (MQTT 5, 4.8.2).
func TestSharedAndRetained(t *testing.T) {
	g := harness.Shared(t)
	each(t, func(v variant) bool { return speaksLine(v) && v.version == 5 }, func(t *testing.T, v variant) {
		topic := wire.Unique("shared")
		c := v.connect(t, g, line.Connect{Clean: true})
		c.publish(retained(topic, "kept", 1))
		c.subscribe(filter(fmt.Sprintf("$share/g/%s", topic), 1))
		c.publish(message(topic, "end", 1))
		c.expect(message(topic, "end", 1))
		c.publish(retained(topic, "", 1))
		c.expect(message(topic, "", 1))
		c.disconnect()
	})
}
