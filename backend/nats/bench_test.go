package nats_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats"
)

// counter is a handler that counts messages.
type counter struct {
	messages atomic.Int64
	gaps     atomic.Int64
}

func (c *counter) HandleMessage(*backend.Message) { c.messages.Add(1) }
func (c *counter) HandleNotice(backend.Notice)    {}
func (c *counter) HandleFlush()                   {}
func (c *counter) HandleGap(error)                { c.gaps.Add(1) }

// benchServer runs the distribution's server until the end of the benchmark.
func benchServer(b *testing.B) *server {
	b.Helper()
	path, err := installed()
	if err != nil {
		b.Skip(err)
	}
	return startServer(b, path)
}

func benchBackend(b *testing.B, s *server, node backend.NodeID, h backend.Handler) *nats.Backend {
	b.Helper()
	g, err := nats.New(nats.Options{URL: "nats://" + s.address, QueueMessages: 1 << 20, QueueBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	if err := g.Start(context.Background(), node, h); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = g.Close() })
	return g
}

// BenchmarkPublish is what a publisher pays for a message that no other
// gateway wants.
func BenchmarkPublish(b *testing.B) {
	g := benchBackend(b, benchServer(b), "from", &counter{})
	m := &backend.Message{Topic: "site/17/sensor/4711/temperature", Payload: make([]byte, 64), Publisher: "sensor-4711"}
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Publish(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAcross is one message from one gateway to another: time, and
// processor time of both gateways and of the server, a million messages.
func BenchmarkAcross(b *testing.B) {
	for _, topics := range []int{1, 16, 1000} {
		for _, size := range []int{64, 1024} {
			b.Run(fmt.Sprintf("topics=%d/bytes=%d", topics, size), func(b *testing.B) {
				s := benchServer(b)
				c := &counter{}
				to := benchBackend(b, s, "to", c)
				from := benchBackend(b, s, "from", &counter{})
				if err := to.Subscribe(b.Context(), "#", backend.ClassQoS0); err != nil {
					b.Fatal(err)
				}
				m := &backend.Message{Payload: make([]byte, size), Publisher: "sensor-4711"}
				names := make([]string, topics)
				for i := range names {
					names[i] = fmt.Sprintf("site/17/sensor/%d/temperature", i)
				}
				own, others := processorTime(b), serverTime(b, s)
				b.ReportAllocs()
				var sent int64
				for b.Loop() {
					m.Topic = names[sent%int64(topics)]
					if err := from.Publish(b.Context(), m); err != nil {
						b.Fatal(err)
					}
					// No more on the way than a busy gateway has.
					for sent++; sent-c.messages.Load() > 20_000; {
						time.Sleep(100 * time.Microsecond)
					}
				}
				for deadline := time.Now().Add(10 * time.Second); c.messages.Load() < sent; {
					if time.Now().After(deadline) {
						b.Fatalf("%d of %d messages arrived; %+v", c.messages.Load(), sent, to.Stats())
					}
					time.Sleep(100 * time.Microsecond)
				}
				million := float64(sent) / 1e6
				b.ReportMetric((processorTime(b)-own)/million, "cpu-s/M")
				b.ReportMetric((serverTime(b, s)-others)/million, "server-cpu-s/M")
				if n := c.gaps.Load(); n > 0 {
					b.Errorf("%d gaps", n)
				}
			})
		}
	}
}

// processorTime of this process, in seconds.
func processorTime(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// serverTime is the processor time of the server, in seconds; 0 where there is
// no /proc.
func serverTime(b *testing.B, s *server) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// Fields are counted behind the name, which may have spaces in it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks float64
	for _, f := range fields[11:13] { // user and system time
		n, err := strconv.ParseFloat(string(f), 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	const perSecond = 100 // the same on all machines that Go runs on
	return ticks / perSecond
}
