package nats_test

import (
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

// figureOf returns a value of a figure by its label, "" for one without.
func figureOf(m backend.Measured, name, label string) backend.Value {
	for _, f := range m.Figures() {
		for _, v := range f.Values {
			if f.Name == name && (label == "" || v.Labels[0] == label) {
				return v
			}
		}
	}
	return backend.Value{Number: -1}
}

// TestFigures: what the bus did is in its figures.
func TestFigures(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 2, nil)
	number := func(name, label string) float64 { return figureOf(list[0], name, label).Number }
	list[0].subscribe(t, "a")
	hears(t, list[0], list[1], "a")
	if n := figureOf(list[1], "bus_messages_sent_total", "").Number; n < 1 {
		t.Errorf("%v messages sent", n)
	}
	if n := number("bus_messages_received_total", ""); n < 1 || number("bus_received_bytes_total", "") < n {
		t.Errorf("%v messages received", n)
	}
	if v := figureOf(list[0], "bus_probe_duration_seconds", ""); v.Spread == nil || v.Spread.Count == 0 {
		t.Errorf("probes %+v", v.Spread)
	}
	if n := number("bus_connected", ""); n != 1 {
		t.Errorf("connected is %v", n)
	}
	s.Kill(t)
	eventually(t, "not connected", func() bool { return number("bus_connected", "") == 0 })
	s.Start(t)
	list[0].wait(t, "a gap", func() bool { return len(list[0].gaps) > 0 })
	if n := number("bus_gap_causes_total", "connection_lost"); n != 1 {
		t.Errorf("%v gaps for a lost connection, want 1", n)
	}
	if n := number("bus_reconnects_total", ""); n != 1 {
		t.Errorf("%v reconnects, want 1", n)
	}
	for _, other := range []string{"slow_handler", "server_cut_off", "peer_lost_connection"} {
		if n := number("bus_gap_causes_total", other); n != 0 {
			t.Errorf("%v gaps for %s", n, other)
		}
	}
}
