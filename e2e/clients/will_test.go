package clients_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestWill has the power fail where three clients run: the will of each is
// published, with its QoS, and retained if it asked so; after DISCONNECT it is not
// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]; retained is [MQTT-3.1.2-17] in
// 3.1.1 and [MQTT-3.1.2-15] in 5.
func TestWill(t *testing.T) {
	g := harness.Shared(t)
	each(t, commands, func(t *testing.T, v variant) {
		topic := wire.Unique("will")
		python := variant{"paho-python", "tcp", v.version}
		watcher := python.connect(t, g, line.Connect{Clean: true})
		watcher.subscribe(filter(topic+"/+", 2))
		machine := v.machine(t)
		server, err := url.Parse(v.url(t, g))
		if err != nil {
			t.Fatal(err)
		}
		cutter := newWireCutter(t, server.Host)
		server.Host = cutter.addr
		mourned := func(will line.Message) *client {
			t.Helper()
			c := machine.connect(t, g, line.Connect{URL: server.String(), Clean: true, Will: &will})
			c.subscribe(filter(topic+"/nothing", 0)) // mosquitto_sub connects only now
			return c
		}
		gone := func(name string, qos int) line.Message { return message(topic+"/"+name, name+" is gone", qos) }

		mourned(gone("d", 1)).disconnect()
		cutter.quiet()
		if v.client == "mosquitto" && v.version == 5 {
			watcher.expect(gone("d", 1)) // a signal makes mosquitto_sub disconnect with 0x04
		}
		watcher.publish(message(topic+"/alive", "and well", 1))
		watcher.expect(message(topic+"/alive", "and well", 1))

		mourned(gone("a", 0))
		mourned(gone("b", 1))
		c := gone("c", 2)
		c.Retain = true
		mourned(c)
		expectSet(watcher, machine.fail, gone("a", 0), gone("b", 1), gone("c", 2))

		late := python.connect(t, g, line.Connect{Clean: true})
		late.subscribe(filter(topic+"/+", 1))
		late.expect(retained(topic+"/c", "c is gone", 1)) // and neither a nor b
		late.publish(retained(topic+"/c", "", 1))
		late.expect(message(topic+"/c", "", 1))
	})
}

// TestWill5 has what MQTT 5 added: properties [MQTT-3.3.2-4] [MQTT-3.3.2-15]
// [MQTT-3.3.2-17] [MQTT-3.3.2-20], the delay, which a reconnection ends
// [MQTT-3.1.3-9], and DISCONNECT with 0x04, which sends the will [MQTT-3.1.2-8].
func TestWill5(t *testing.T) {
	g := harness.Shared(t)
	each(t, func(v variant) bool { return speaksLine(v) && v.version == 5 }, func(t *testing.T, v variant) {
		topic := wire.Unique("will5")
		watcher := v.connect(t, g, line.Connect{Clean: true})
		watcher.subscribe(filter(topic+"/+", 1))
		mourned := func(id, name string, delay int) line.Connect {
			return line.Connect{ClientID: id, Expiry: hour, WillDelay: delay, Will: &line.Message{
				Topic: topic + "/" + name, Payload: []byte(name), QoS: 1,
				Properties: &line.Properties{
					ContentType: "text/plain", ResponseTopic: topic, Correlation: []byte("last"), PayloadFormat: 1,
					User: [][2]string{{"name", name}},
				},
			}}
		}
		expect := func(name string) {
			t.Helper()
			m := watcher.receive()
			p := m.Properties
			if p != nil && (v.client == "paho.golang" || v.client == "autopaho") {
				// Of a will's properties the library sends the delay and the user's only.
				p.ContentType, p.ResponseTopic, p.Correlation, p.PayloadFormat = "text/plain", topic, []byte("last"), 1
			}
			if m.Topic != topic+"/"+name || p == nil || p.ContentType != "text/plain" || p.ResponseTopic != topic ||
				string(p.Correlation) != "last" || p.PayloadFormat != 1 || len(p.User) != 1 || p.User[0] != [2]string{"name", name} {
				t.Fatalf("got %s with %+v, want the will of %s", show(m), p, name)
			}
		}

		if err := v.connect(t, g, mourned("", "asked", 0)).conn.disconnect(4); err != nil {
			t.Fatal(err)
		}
		expect("asked")

		machine, id := v.machine(t), wire.Unique("w")
		machine.connect(t, g, mourned("", "delayed", 1))
		machine.connect(t, g, mourned(id, "back in time", hour))
		killed := time.Now()
		machine.fail()
		expect("delayed")
		if took := time.Since(killed); took < time.Second {
			t.Errorf("the will came %v after the connection, not a second", took)
		}
		back := v.connect(t, g, mourned(id, "another", 0))
		if !back.answer.SessionPresent {
			t.Error("no session present")
		}
		back.publish(message(topic+"/end", "end", 1))
		watcher.expect(message(topic+"/end", "end", 1))
		back.disconnect()
	})
}
