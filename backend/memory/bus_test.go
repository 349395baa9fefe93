package memory

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sluice-mqtt/sluice/backend"
)

// script is a handler that writes down its calls; gate, if set, runs first.
type script struct {
	gate  func()
	lines []string
}

func (s *script) line(text string) {
	if s.gate != nil {
		s.gate()
	}
	s.lines = append(s.lines, text)
}

func (s *script) HandleMessage(m *backend.Message) { s.line(m.Topic) }
func (s *script) HandleNotice(n backend.Notice)    { s.line("notice " + string(n.Client)) }
func (s *script) HandleFlush()                     {}
func (s *script) HandleGap(reason error)           { s.line("gap: " + reason.Error()) }

// join starts a gateway on bus that hears everything under "#".
func join(t *testing.T, bus *Bus, id backend.NodeID) (backend.Backend, *script) {
	t.Helper()
	g, s := bus.Gateway(), &script{}
	if err := g.Start(t.Context(), id, s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := g.Subscribe(t.Context(), "#", backend.ClassQoS0|backend.ClassAcked); err != nil {
		t.Fatal(err)
	}
	return g, s
}

func TestBusStall(t *testing.T) {
	payload := make([]byte, 99) // one byte of topic: 100 in all
	tests := []struct {
		name            string
		messages, bytes int
		publish         string
		want            []string
	}{
		{"by count", 3, 1 << 20, "abcdef", []string{"a", "b", "c", "d", "gap: memory: bus: 2 deliveries dropped: limit reached", "z"}},
		{"by bytes", 100, 250, "abcdef", []string{"a", "b", "c", "gap: memory: bus: 3 deliveries dropped: limit reached", "z"}},
		{"one above all bytes", 100, 50, "ab", []string{"a", "b", "z"}},
		{"none", 100, 1 << 20, "abcdef", []string{"a", "b", "c", "d", "e", "f", "z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := NewBus()
				bus.QueueMessages, bus.QueueBytes = tt.messages, tt.bytes
				from, _ := join(t, bus, "from")
				_, s := join(t, bus, "to")
				stalled := make(chan struct{})
				s.gate = func() { <-stalled }
				send := func(topic rune) {
					if err := from.Publish(t.Context(), &backend.Message{Topic: string(topic), Payload: payload}); err != nil {
						t.Error(err)
					}
					synctest.Wait() // the first is in the handler's hands, not in the queue
				}
				for _, topic := range tt.publish {
					send(topic)
				}
				close(stalled)
				synctest.Wait()
				send('z')
				if !slices.Equal(s.lines, tt.want) {
					t.Errorf("heard %q, want %q", s.lines, tt.want)
				}
			})
		})
	}
}

func TestBusStallsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := NewBus()
		bus.QueueMessages = 1
		from, _ := join(t, bus, "from")
		_, s := join(t, bus, "to")
		step := make(chan struct{})
		s.gate = func() { <-step }
		for _, topic := range []string{"held", "queued", "lost 1"} {
			if err := from.Publish(t.Context(), &backend.Message{Topic: topic}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		step <- struct{}{} // held
		step <- struct{}{} // queued; now the gap is in the handler's hands
		synctest.Wait()
		for _, topic := range []string{"after", "lost 2"} {
			if err := from.Notify(t.Context(), "to", backend.Notice{Client: backend.ClientID(topic)}); err != nil {
				t.Fatal(err)
			}
		}
		close(step)
		synctest.Wait()
		const gap = "gap: memory: bus: 1 deliveries dropped: limit reached"
		if want := []string{"held", "queued", gap, "notice after", gap}; !slices.Equal(s.lines, want) {
			t.Errorf("heard %q, want %q", s.lines, want)
		}
	})
}

func TestBusExactClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := NewBus()
		from, _ := join(t, bus, "from")
		to, s := join(t, bus, "to")
		if err := to.Unsubscribe(t.Context(), "#", backend.ClassQoS0); err != nil {
			t.Fatal(err)
		}
		for qos := range byte(3) {
			if err := from.Publish(t.Context(), &backend.Message{Topic: fmt.Sprint(qos), QoS: qos}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if want := []string{"1", "2"}; !slices.Equal(s.lines, want) {
			t.Errorf("heard %q, want %q", s.lines, want)
		}
	})
}

func TestBusForgetsAGateway(t *testing.T) {
	bus := NewBus()
	g, _ := join(t, bus, "a")
	if err := g.Subscribe(t.Context(), "a/b", backend.ClassQoS0); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if filters, subscriptions := bus.interests.Len(); filters != 0 || subscriptions != 0 {
		t.Errorf("%d filters and %d interests are left", filters, subscriptions)
	}
	join(t, bus, "a") // the name is free again
}

func TestBusMisuse(t *testing.T) {
	bus := NewBus()
	fresh := bus.Gateway()
	if err := fresh.Publish(t.Context(), &backend.Message{Topic: "a"}); err == nil {
		t.Error("Publish before Start: no error")
	}
	if err := fresh.Close(); err != nil {
		t.Errorf("Close before Start: %v", err)
	}
	if err := fresh.Start(t.Context(), "fresh", &script{}); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
	g, _ := join(t, bus, "a")
	if err := g.Start(t.Context(), "b", &script{}); err == nil {
		t.Error("Start twice: no error")
	}
	if err := bus.Gateway().Start(t.Context(), "a", &script{}); err == nil {
		t.Error("a second node with the name of the first: no error")
	}
}

// TestBusAloneIsFree keeps the single process, where every PUBLISH passes the
// bus, from paying for gateways that do not exist.
func TestBusAloneIsFree(t *testing.T) {
	g, _ := join(t, NewBus(), "alone")
	m, ctx := &backend.Message{Topic: "a/b", Payload: make([]byte, 64)}, t.Context()
	n := testing.AllocsPerRun(1000, func() {
		if err := g.Publish(ctx, m); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a Publish", n)
	}
}

func BenchmarkBusPublish(b *testing.B) {
	for _, gateways := range []int{1, 3} {
		for _, topic := range []string{"nobody", "heard"} {
			b.Run(fmt.Sprintf("gateways=%d/%s", gateways, topic), func(b *testing.B) {
				bus := NewBus()
				var all []backend.Backend
				for i := range gateways {
					g := bus.Gateway()
					if err := g.Start(b.Context(), backend.NodeID(fmt.Sprint(i)), deaf{}); err != nil {
						b.Fatal(err)
					}
					if err := g.Subscribe(b.Context(), "heard", backend.ClassQoS0); err != nil {
						b.Fatal(err)
					}
					all = append(all, g)
				}
				m, ctx := &backend.Message{Topic: topic, Payload: make([]byte, 64)}, b.Context()
				b.ReportAllocs()
				b.RunParallel(func(p *testing.PB) {
					for p.Next() {
						if err := all[0].Publish(ctx, m); err != nil {
							b.Error(err)
						}
					}
				})
				for _, g := range all {
					_ = g.Close()
				}
			})
		}
	}
}

type deaf struct{}

func (deaf) HandleMessage(*backend.Message) {}
func (deaf) HandleNotice(backend.Notice)    {}
func (deaf) HandleFlush()                   {}
func (deaf) HandleGap(error)                {}
