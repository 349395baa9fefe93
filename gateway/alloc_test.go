package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"unsafe"

	"github.com/sluice-mqtt/sluice/protocol"
)

// pair is a publisher and a subscriber of one topic, on real sockets, that do
// nothing but move prepared bytes.
type pair struct {
	pub, sub net.Conn
	buf      []byte
	// batch holds the publishes that go out in one write; as many bytes come
	// to the subscriber.
	batch []byte
}

// rawDial connects and completes CONNECT.
func rawDial(tb testing.TB, address, id string, v protocol.Version) net.Conn {
	tb.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	return connected(tb, nc, id, v)
}

// connected is nc with CONNECT done.
func connected(tb testing.TB, nc net.Conn, id string, v protocol.Version) net.Conn {
	tb.Helper()
	exchange(tb, nc, connectPacket(id, func(p *protocol.Connect) { p.Version = v }), v)
	return nc
}

// exchange sends a packet and reads one in answer.
func exchange(tb testing.TB, nc net.Conn, p protocol.Packet, v protocol.Version) {
	tb.Helper()
	b, err := protocol.AppendPacket(nil, p, v)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := nc.Write(b); err != nil {
		tb.Fatal(err)
	}
	if _, err := protocol.NewReader(nc, 0).ReadPacket(v); err != nil {
		tb.Fatal(err)
	}
}

// newPair prepares a pair that sends count messages in one write.
func newPair(tb testing.TB, address string, number, count int, v protocol.Version) *pair {
	tb.Helper()
	return pairOf(tb, rawDial(tb, address, fmt.Sprint("pub", number), v), rawDial(tb, address, fmt.Sprint("sub", number), v), number, count, v)
}

func pairOf(tb testing.TB, pub, sub net.Conn, number, count int, v protocol.Version) *pair {
	tb.Helper()
	topic := fmt.Sprint("pair/", number)
	p := &pair{pub: pub, sub: sub, buf: make([]byte, 64<<10)}
	exchange(tb, p.sub, subscribePacket(1, 0, topic), v)
	one, err := protocol.AppendPacket(nil, publish(topic, "sixteen bytes...", 0, 0), v)
	if err != nil {
		tb.Fatal(err)
	}
	p.batch = bytes.Repeat(one, count)
	return p
}

// round publishes the batch and takes it at the other end.
func (p *pair) round(tb testing.TB) {
	if _, err := p.pub.Write(p.batch); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(p.sub, p.buf[:len(p.batch)]); err != nil {
		tb.Fatal(err)
	}
}

func tcpGateway(tb testing.TB) string {
	g := newGateway(tb, func(o *Options) { o.Listeners = []Listener{{Name: "tcp", Address: "127.0.0.1:0"}} })
	return g.Addr("tcp").String()
}

// TestConnectionSize: a connection fits into 1 KiB, of which the runtime takes 8
// bytes; the next size that it has is 128 bytes more.
func TestConnectionSize(t *testing.T) {
	if size := unsafe.Sizeof(conn{}); size > 1024-8 {
		t.Errorf("%d bytes", size)
	}
}

// TestNoAllocation: a QoS 0 message goes from socket to socket without
// allocating anything, in either version, alone and with others. What is left
// is the noise of the gateway's own timers. It does not run in parallel, since
// it counts for the whole process, and not under the race detector, which
// allocates by itself.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, v := range []protocol.Version{protocol.V311, protocol.V5} {
		for _, count := range []int{1, 50} {
			t.Run(fmt.Sprintf("%v, %d in a write", v, count), func(t *testing.T) {
				address := tcpGateway(t)
				pairs := []*pair{newPair(t, address, 0, count, v), newPair(t, address, 1, count, v)}
				run := func(messages int) {
					for range messages / count / len(pairs) {
						for _, p := range pairs {
							p.round(t)
						}
					}
				}
				run(2000) // pools and caches fill
				const messages = 20_000
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				run(messages)
				runtime.ReadMemStats(&after)
				if each := float64(after.Mallocs-before.Mallocs) / messages; each >= 0.01 {
					t.Errorf("%.3f allocations a message", each)
				}
			})
		}
	}
}
