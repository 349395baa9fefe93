package session

import (
	"fmt"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// BenchmarkOutbound is one delivery, with a window's worth in flight, from the
// message to its last acknowledgement; the store hears of those of a durable
// session once for each window.
func BenchmarkOutbound(b *testing.B) {
	for _, durable := range []bool{false, true} {
		for qos := byte(1); qos <= 2; qos++ {
			for _, window := range []uint16{1, 20, 1000} {
				b.Run(fmt.Sprintf("durable=%v/QoS%d/window=%d", durable, qos, window), func(b *testing.B) {
					s := NewOutbound(&backend.Opened{Durable: durable}, window)
					e := backend.Entry{Message: &backend.Message{Topic: "t"}, QoS: qos}
					ids := make([]uint16, window)
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						at := i % int(window)
						if e.Seq++; durable && !s.Mail(e) || s.Room() <= 0 {
							b.Fatal("no room")
						}
						ids[at] = s.Sent(&e)
						if at < int(window)-1 {
							continue
						}
						for _, id := range ids {
							var err error
							if qos == 1 {
								err = s.Puback(id)
							} else if _, _, err = s.Pubrec(id, false); err == nil {
								err = s.Pubcomp(id)
							}
							if err != nil {
								b.Fatal(err)
							}
						}
						if _, n, changed := s.Progress(); changed {
							s.Stored(n)
						}
					}
				})
			}
		}
	}
}

// BenchmarkInbound is one PUBLISH and what answers it.
func BenchmarkInbound(b *testing.B) {
	for _, durable := range []bool{false, true} {
		for qos := byte(0); qos <= 2; qos++ {
			b.Run(fmt.Sprintf("durable=%v/QoS%d", durable, qos), func(b *testing.B) {
				s := NewInbound(Rules{Version: protocol.V5, ReceiveMaximum: 20, MaximumQoS: 2}, &backend.Opened{Durable: durable})
				p := protocol.Publish{Topic: []byte("t"), QoS: qos}
				b.ReportAllocs()
				for b.Loop() {
					if qos > 0 {
						p.PacketID = p.PacketID%65535 + 1
					}
					if do, err := s.Publish(&p); do != Take || err != nil {
						b.Fatal(do, err)
					}
					switch qos {
					case 1:
						s.Acked()
					case 2:
						if s.ID(p.PacketID).PacketID != p.PacketID {
							b.Fatal("another publish")
						}
						if _, code := s.Pubrel(p.PacketID); code != protocol.Success {
							b.Fatal(code)
						}
					}
				}
			})
		}
	}
}
