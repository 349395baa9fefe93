package clients_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestHome plays a day in a house: a home automation that learns of its devices by
// retained discovery messages and tells of itself by birth and will, a bridge of
// many devices, and a microcontroller. All of it is MQTT 3.1.1 at low QoS, as these
// programs do by default; the names follow Home Assistant, zigbee2mqtt and Tasmota.
func TestHome(t *testing.T) {
	g := harness.Shared(t)
	python := variant{"paho-python", "tcp", 4}
	house := wire.Unique("home")
	var (
		status       = house + "/homeassistant/status"
		lampConfig   = house + "/homeassistant/light/0x00158d0001/light/config"
		plugConfig   = house + "/homeassistant/switch/tasmota_5CCF7F/config"
		lampState    = house + "/zigbee2mqtt/lamp"
		bridgeState  = house + "/zigbee2mqtt/bridge/state"
		plugPower    = house + "/stat/tasmota_5CCF7F/POWER"
		plugAlive    = house + "/tele/tasmota_5CCF7F/LWT"
		plugCommand  = house + "/cmnd/tasmota_5CCF7F/POWER"
		bridgeOnline = `{"state":"online"}`
	)
	connectHome := func() *client {
		t.Helper()
		will := message(status, "offline", 0)
		return python.machine(t).connect(t, g, line.Connect{ClientID: house, Clean: true, Will: &will})
	}

	// The bridge is there first, and announces a lamp.
	bridgeWill := retained(bridgeState, `{"state":"offline"}`, 1)
	bridge := python.machine(t).connect(t, g, line.Connect{Clean: true, Will: &bridgeWill})
	bridge.publish(
		retained(bridgeState, bridgeOnline, 1),
		retained(lampConfig, `{"state_topic":"`+lampState+`"}`, 1),
		retained(lampState, `{"state":"OFF"}`, 0),
	)
	bridge.subscribe(filter(lampState+"/set", 0), filter(status, 0))

	// The plug comes a byte at a time.
	plug := connectTrickle(t, g, wire.Connect{
		ClientID: wire.Unique("plug"), Clean: true, KeepAlive: 15,
		Will: &wire.Will{Topic: plugAlive, Payload: "Offline", QoS: 1, Retain: true},
	})
	announcePlug := func() {
		for topic, payload := range map[string]string{
			plugAlive: "Online", plugConfig: `{"cmd_t":"` + plugCommand + `"}`, plugPower: "OFF",
		} {
			plug.PublishPacket(wire.Publish{Topic: topic, Retain: true, Payload: payload})
		}
		plug.Ping()
	}
	announcePlug()
	plug.Subscribe(plugCommand, 0)
	plug.Subscribe(status, 0)

	// The automation finds both, then asks for their states, retained all of them.
	home := connectHome()
	expectSet(home, func() {
		home.subscribe(filter(house+"/homeassistant/+/+/config", 0), filter(house+"/homeassistant/+/+/+/config", 0))
	},
		retained(lampConfig, `{"state_topic":"`+lampState+`"}`, 0), retained(plugConfig, `{"cmd_t":"`+plugCommand+`"}`, 0))
	expectSet(home, func() {
		home.subscribe(filter(lampState, 0), filter(bridgeState, 0), filter(plugPower, 0), filter(plugAlive, 0))
	},
		retained(lampState, `{"state":"OFF"}`, 0), retained(bridgeState, bridgeOnline, 0),
		retained(plugPower, "OFF", 0), retained(plugAlive, "Online", 0))

	// Its birth has the devices tell of themselves again, now as news.
	home.publish(message(status, "online", 0))
	bridge.expect(message(status, "online", 0))
	if m := plug.Receive(); m.Payload != "online" {
		t.Fatalf("the plug got %q", m.Payload)
	}
	bridge.publish(retained(lampState, `{"state":"OFF"}`, 0))
	home.expect(message(lampState, `{"state":"OFF"}`, 0))

	// Commands and their effect.
	home.publish(message(lampState+"/set", `{"state":"ON"}`, 0))
	bridge.expect(message(lampState+"/set", `{"state":"ON"}`, 0))
	bridge.publish(retained(lampState, `{"state":"ON"}`, 0))
	home.expect(message(lampState, `{"state":"ON"}`, 0))
	home.publish(message(plugCommand, "ON", 0))
	if m := plug.Receive(); m.Payload != "ON" {
		t.Fatalf("the plug got %q", m.Payload)
	}
	plug.PublishPacket(wire.Publish{Topic: plugPower, Retain: true, Payload: "ON"})
	home.expect(message(plugPower, "ON", 0))

	// Power fails in the plug and in the bridge: their wills say so.
	plug.Drop()
	home.expect(message(plugAlive, "Offline", 0))
	bridge.conn.kill()
	home.expect(message(bridgeState, `{"state":"offline"}`, 0))

	// The automation crashes. Who watches it hears so, once.
	watcher := python.connect(t, g, line.Connect{Clean: true})
	watcher.subscribe(filter(status, 0))
	home.conn.kill()
	watcher.expect(message(status, "offline", 0))

	// It comes back under its name, and finds what was last true.
	home = connectHome()
	expectSet(home, func() {
		home.subscribe(filter(lampState, 0), filter(bridgeState, 0), filter(plugPower, 0), filter(plugAlive, 0))
	},
		retained(lampState, `{"state":"ON"}`, 0), retained(bridgeState, `{"state":"offline"}`, 0),
		retained(plugPower, "ON", 0), retained(plugAlive, "Offline", 0))

	// The lamp is removed from the house: its discovery message is emptied.
	home.subscribe(filter(house+"/homeassistant/#", 0))
	expectSet(home, func() {}, retained(lampConfig, `{"state_topic":"`+lampState+`"}`, 0), retained(plugConfig, `{"cmd_t":"`+plugCommand+`"}`, 0))
	watcher.publish(retained(lampConfig, "", 1))
	home.expect(message(lampConfig, "", 0))
	late := python.connect(t, g, line.Connect{Clean: true})
	late.subscribe(filter(house+"/homeassistant/#", 0))
	late.expect(retained(plugConfig, `{"cmd_t":"`+plugCommand+`"}`, 0))
	late.publish(message(status, "end", 0))
	late.expect(message(status, "end", 0))
}

// expectSet does something and expects these messages of it, in any order.
func expectSet(c *client, do func(), want ...line.Message) {
	c.t.Helper()
	do()
	missing := map[string]bool{}
	for _, m := range want {
		missing[show(m)] = true
	}
	for range want {
		m := c.receive()
		m.Properties = nil
		if !missing[show(m)] {
			c.t.Fatalf("%s: got %s, want one of %v", c.variant, show(m), fmt.Sprint(missing))
		}
		delete(missing, show(m))
	}
}

// connectTrickle connects the way a small microcontroller does that has no room to
// put a packet together: every byte is a segment of its own.
func connectTrickle(t testing.TB, g *harness.Gateway, p wire.Connect) *wire.Client {
	t.Helper()
	conn, err := net.Dial("tcp", g.AnyTCP())
	if err != nil {
		t.Fatal(err)
	}
	return wire.New(t, trickle{conn}).Connect(p)
}

// trickle is a connection that writes one byte at a time, and reads so.
type trickle struct{ net.Conn }

func (c trickle) Write(b []byte) (int, error) {
	for i := range b {
		if n, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(b), nil
}

func (c trickle) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(1, len(b))]) }
