package gateway

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/sluice-mqtt/sluice/protocol"
)

// flow is a publisher and a subscriber of QoS 1 or 2 on real sockets. All
// packets of one kind have the same length, so that identifiers are found
// without decoding.
type flow struct {
	tb       testing.TB
	pub, sub net.Conn
	qos      byte
	count    int // messages in one write
	publish  []byte
	each, id int // length of a PUBLISH, and where its identifier is
	in, out  []byte
}

func newFlow(tb testing.TB, address string, number, count int, qos byte, expiry uint32) *flow {
	tb.Helper()
	topic := fmt.Sprint("flow/", number)
	f := &flow{
		tb: tb, qos: qos, count: count,
		pub: rawDial(tb, address, fmt.Sprint("fpub", number), protocol.V5),
		in:  make([]byte, 64<<10),
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	f.sub = nc
	exchange(tb, nc, connectPacket(fmt.Sprint("fsub", number), durable(expiry)), protocol.V5)
	exchange(tb, nc, subscribePacket(1, qos, topic), protocol.V5)
	for i := range count {
		f.publish, _ = protocol.AppendPacket(f.publish, publish(topic, "sixteen bytes...", qos, uint16(i+1)), protocol.V5)
	}
	f.each = len(f.publish) / count
	f.id = 2 + 2 + len(topic)
	return f
}

func (f *flow) write(nc net.Conn, b []byte) {
	if _, err := nc.Write(b); err != nil {
		f.tb.Fatal(err)
	}
}

func (f *flow) read(nc net.Conn, n int) []byte {
	if _, err := io.ReadFull(nc, f.in[:n]); err != nil {
		f.tb.Fatal(err)
	}
	return f.in[:n]
}

// acks makes acknowledgements of one kind, of four bytes each.
func (f *flow) acks(kind protocol.Type, id func(i int) uint16) []byte {
	f.out = f.out[:0]
	for i := range f.count {
		f.out = protocol.AppendAck(f.out, kind, id(i), protocol.Success, protocol.V5)
	}
	return f.out
}

// round publishes and acknowledges one batch at both ends.
func (f *flow) round() {
	f.write(f.pub, f.publish)
	got := f.read(f.sub, f.each*f.count)
	first := binary.BigEndian.Uint16(got[f.id:])
	delivered := func(i int) uint16 { return uint16((int(first)-1+i)%65535) + 1 }
	if f.qos == 1 {
		f.write(f.sub, f.acks(protocol.PUBACK, delivered))
		f.read(f.pub, 4*f.count)
		return
	}
	f.write(f.sub, f.acks(protocol.PUBREC, delivered))
	f.read(f.sub, 4*f.count)
	f.write(f.sub, f.acks(protocol.PUBCOMP, delivered))
	f.read(f.pub, 4*f.count)
	f.write(f.pub, f.acks(protocol.PUBREL, func(i int) uint16 { return uint16(i + 1) }))
	f.read(f.pub, 4*f.count)
}

// BenchmarkPair is one message from a publisher to a subscriber and all that
// the two say to it, on loopback sockets.
func BenchmarkPair(b *testing.B) {
	for _, count := range []int{1, 50} {
		b.Run(fmt.Sprintf("QoS0/%d", count), func(b *testing.B) {
			p := newPair(b, tcpGateway(b), 0, count, protocol.V5)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%count == 0 {
					p.round(b)
				}
			}
		})
		b.Run(fmt.Sprintf("QoS0/TLS/%d", count), func(b *testing.B) {
			pki := newPKI(b)
			g := newGateway(b, withTLS(pki.options))
			var ends [2]net.Conn
			for i := range ends {
				nc, err := dialTLS(b, g, "tls", pki.config())
				if err != nil {
					b.Fatal(err)
				}
				ends[i] = connected(b, nc, fmt.Sprint("end", i), protocol.V5)
			}
			p := pairOf(b, ends[0], ends[1], 0, count, protocol.V5)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%count == 0 {
					p.round(b)
				}
			}
		})
		for qos := byte(1); qos <= 2; qos++ {
			for _, expiry := range []uint32{0, 1000} {
				kind := map[uint32]string{0: "ephemeral", 1000: "durable"}[expiry]
				b.Run(fmt.Sprintf("QoS%d/%s/%d", qos, kind, count), func(b *testing.B) {
					f := newFlow(b, tcpGateway(b), 0, count, qos, expiry)
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						if i%count == 0 {
							f.round()
						}
					}
				})
			}
		}
	}
}

// BenchmarkFanOut is one message to a hundred subscribers, of which each delivery
// counts.
func BenchmarkFanOut(b *testing.B) {
	const subscribers = 100
	for _, v := range []protocol.Version{protocol.V311, protocol.V5} {
		b.Run(fmt.Sprint(v), func(b *testing.B) {
			address := tcpGateway(b)
			pub := rawDial(b, address, "pub", v)
			var subs []net.Conn
			for i := range subscribers {
				s := rawDial(b, address, fmt.Sprint("sub", i), v)
				exchange(b, s, subscribePacket(1, 0, "all"), v)
				subs = append(subs, s)
			}
			one, err := protocol.AppendPacket(nil, publish("all", "sixteen bytes...", 0, 0), v)
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, len(one))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%subscribers != 0 {
					continue
				}
				if _, err := pub.Write(one); err != nil {
					b.Fatal(err)
				}
				for _, s := range subs {
					if _, err := io.ReadFull(s, buf); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
