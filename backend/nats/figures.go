package nats

import (
	"errors"

	"github.com/sluice-mqtt/sluice/backend"
)

// gapReasons are the causes of gaps, in the order in which the figures show
// them.
var gapReasons = []struct {
	name string
	err  error
}{
	{"slow_handler", backend.ErrFull},
	{"connection_lost", errConnectionLost},
	{"server_cut_off", errCutOff},
	{"peer_lost_connection", errPeerLoss},
}

// gapReason returns the index of the cause of a gap.
func gapReason(err error) int {
	for i, r := range gapReasons {
		if errors.Is(err, r.err) {
			return i
		}
	}
	return 0
}

var _ backend.Measured = (*Backend)(nil)

// Figures implements [backend.Measured].
func (b *Backend) Figures() []backend.Figure {
	s := b.Stats()
	connected := 1.0
	if b.Health() != nil {
		connected = 0
	}
	gaps := make([]backend.Value, len(gapReasons))
	for i, r := range gapReasons {
		gaps[i] = labelled(r.name, b.deliver.gaps[i].Load())
	}
	return []backend.Figure{
		{Name: "bus_connected", Help: "1 while messages flow between gateways, else 0.", Kind: backend.Gauge, Values: backend.Single(connected)},
		{Name: "bus_messages_sent_total", Help: "Messages and notices given to the bus for other gateways.", Kind: backend.Counter, Values: backend.Single(float64(s.MessagesOut))},
		{Name: "bus_messages_received_total", Help: "Messages and notices from other gateways.", Kind: backend.Counter, Values: backend.Single(float64(s.MessagesIn))},
		{Name: "bus_sent_bytes_total", Help: "Bytes of their envelopes, sent.", Kind: backend.Counter, Values: backend.Single(float64(s.BytesOut))},
		{Name: "bus_received_bytes_total", Help: "Bytes of their envelopes, received.", Kind: backend.Counter, Values: backend.Single(float64(s.BytesIn))},
		{Name: "bus_messages_dropped_total", Help: "Messages and notices lost here: more than the gateway took, or not written when the connection ended.",
			Kind: backend.Counter, Labels: []string{"reason"}, Values: []backend.Value{labelled("slow_handler", s.Dropped), labelled("connection_lost", s.Lost)}},
		{Name: "bus_messages_repeated_total", Help: "Messages that came for more than one interest and were handed out once.", Kind: backend.Counter, Values: backend.Single(float64(s.Repeated))},
		{Name: "bus_foreign_messages_total", Help: "Messages on our subjects that are not for this program.",
			Kind: backend.Counter, Labels: []string{"kind"}, Values: []backend.Value{
				labelled("malformed", s.Malformed), labelled("unknown_version", s.UnknownVersion), labelled("other_cluster", s.Foreign)}},
		{Name: "bus_gap_causes_total", Help: "Times that messages may have been missed, by the cause.", Kind: backend.Counter, Labels: []string{"reason"}, Values: gaps},
		{Name: "bus_reconnects_total", Help: "Times that the connection was made anew.", Kind: backend.Counter, Values: backend.Single(float64(s.Reconnects))},
		{Name: "bus_probe_duration_seconds", Help: "From sending a probe until it came back by way of every server that can be reached.", Kind: backend.Distribution, Values: []backend.Value{{Spread: b.probes.Spread()}}},
	}
}

func labelled(label string, n uint64) backend.Value {
	return backend.Value{Labels: []string{label}, Number: float64(n)}
}
