package chaos

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// WillSender is the sender of all wills.
const WillSender = "wills"

// mortals are clients that connect with a will, live for a while and die. Each
// life has a client identifier of its own, so that nothing but its death can
// decide about its will.
type mortals struct {
	run  *Run
	stop chan struct{}
	once sync.Once
	all  sync.WaitGroup
	mu   sync.Mutex
	sent []Sent
}

// Mortals starts n of them. They live for half of life to all of it. The wills
// are published to will/n.
func (r *Run) Mortals(n int, life time.Duration) {
	m := &mortals{run: r, stop: make(chan struct{})}
	r.mortals = m
	for i := range n {
		m.all.Add(1)
		r.clients.Go(func() { // ends with the run
			defer m.all.Done()
			m.loop(r.ctx, i, life)
		})
	}
}

func (m *mortals) history() Sender {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Sender{Name: WillSender, Wills: true, Sent: append([]Sent(nil), m.sent...)}
}

// finish lets the last ones die.
func (m *mortals) finish() {
	m.once.Do(func() { close(m.stop) })
	m.all.Wait()
}

func (m *mortals) loop(ctx context.Context, i int, life time.Duration) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		select {
		case <-m.stop:
			return
		default:
		}
		n, p := m.born(i)
		l, err := open(ctx, m.run.address, p)
		if err != nil { // whether the will is there nobody knows
			pause(ctx, attempt)
			continue
		}
		attempt = 0
		m.live(ctx, l, life/2+rand.N(life/2))
		l.drop()
		m.mu.Lock()
		m.sent[n].Acked = m.run.now()
		m.mu.Unlock()
	}
}

// born makes the CONNECT of a new life: versions, QoS and kinds of session take
// turns.
func (m *mortals) born(i int) (int, wire.Connect) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.sent)
	qos := byte(1 + (n+i)%2)
	topic := m.run.Topic("will/" + string(rune('a'+i%26)))
	m.sent = append(m.sent, Sent{Topic: topic, QoS: qos, At: m.run.now()})
	c := wire.Connect{Version: wire.V311, ClientID: m.run.prefix + payload("mortal", n), Clean: n%4 < 2,
		Will: &wire.Will{Topic: topic, QoS: qos, Payload: payload(WillSender, n)}}
	if n%2 == 0 {
		c.Version = wire.V5
		if n%4 == 0 {
			c.Props = wire.Props{wire.U32Prop(wire.SessionExpiryID, 60)}
			c.Will.Props = wire.Props{wire.U32Prop(wire.WillDelayID, 1)}
		}
	}
	return n, c
}

// live waits for the end of a life.
func (m *mortals) live(ctx context.Context, l *link, life time.Duration) {
	end := time.After(life)
	pings := time.NewTicker(pingEvery / 4)
	defer pings.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-m.stop:
			return
		case _, ok := <-l.packets:
			if !ok {
				return
			}
			l.heard = time.Now()
		case <-pings.C:
			if l.tick() != nil {
				return
			}
		}
	}
}
