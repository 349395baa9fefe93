package chaos

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// Publisher says how one publishes.
type Publisher struct {
	Name    string
	Version wire.Version
	// Topics are used in turn, QoS too.
	Topics []string
	QoS    []byte
	Every  time.Duration // between two messages
	Burst  int           // instead of one
	Window int           // messages under way
	Count  int           // of messages in all; 0: until the run settles
	// Forgetful ones begin a new session at each connection, and never repeat
	// what was under way.
	Forgetful bool
}

// publisher publishes and repeats what was not acknowledged.
type publisher struct {
	Publisher
	run      *Run
	name     string
	stop     chan struct{}
	stopOnce sync.Once
	finished chan struct{}

	mu       sync.Mutex
	sent     []Sent
	inflight []flight
	lastID   uint16
	started  bool // there was a CONNACK
	session  int
}

// flight is a message under way.
type flight struct {
	n        int
	id       uint16
	released bool // PUBREC came
}

// Publish starts a publisher.
func (r *Run) Publish(p Publisher) {
	if p.Window == 0 {
		p.Window = 8
	}
	pub := &publisher{Publisher: p, run: r, name: p.Name, stop: make(chan struct{}), finished: make(chan struct{})}
	r.senders = append(r.senders, pub)
	r.clients.Go(func() { pub.loop(r.ctx) }) // ends with the run
}

func (p *publisher) history() Sender {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Sender{Name: p.name, Sent: append([]Sent(nil), p.sent...)}
}

// finish lets what is under way end, and sends nothing new.
func (p *publisher) finish() { p.stopOnce.Do(func() { close(p.stop) }) }

func (p *publisher) waiting() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%+v", p.inflight)
}

func (p *publisher) connect() wire.Connect {
	c := wire.Connect{Version: p.Version, ClientID: p.run.prefix + p.name, Clean: p.Forgetful}
	if p.Version == wire.V5 && !p.Forgetful {
		c.Props = wire.Props{wire.U32Prop(wire.SessionExpiryID, 3600)}
	}
	return c
}

func (p *publisher) loop(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		l, err := open(ctx, p.run.address, p.connect())
		if err != nil {
			pause(ctx, attempt)
			continue
		}
		attempt = 0
		p.serve(ctx, l)
		l.drop()
		if p.ended() {
			return
		}
		pause(ctx, 0)
	}
}

// ended reports whether everything is done.
func (p *publisher) ended() bool {
	select {
	case <-p.finished:
		return true
	default:
		return false
	}
}

// serve publishes over one connection.
func (p *publisher) serve(ctx context.Context, l *link) {
	if err := p.resume(l); err != nil {
		return
	}
	p.run.online.Add(1)
	defer p.run.online.Add(-1)
	every := time.NewTicker(p.Every)
	defer every.Stop()
	pings := time.NewTicker(pingEvery / 4)
	defer pings.Stop()
	stop := p.stop
	stopping := false
	for {
		if (stopping || p.Count > 0 && p.count() == p.Count) && p.idle() {
			close(p.finished)
			l.send(wire.Disconnect{})
			p.run.online.Add(1) // it needs no connection any more
			return
		}
		var err error
		select {
		case <-ctx.Done():
			return
		case <-stop:
			stop, stopping = nil, true
		case packet, ok := <-l.packets:
			if !ok {
				return
			}
			l.heard = time.Now()
			err = p.take(l, packet)
		case <-pings.C:
			err = l.tick()
		case <-every.C:
			for i := 0; i < max(1, p.Burst) && !stopping && err == nil; i++ {
				err = p.next(l)
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sent)
}

func (p *publisher) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.inflight) == 0
}

// resume repeats what was under way, in order [MQTT-4.4.0-1].
func (p *publisher) resume(l *link) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Forgetful {
		p.inflight = nil
		p.session++
		return nil
	}
	if p.started && !l.connack.SessionPresent {
		p.run.breaks("%s: the session is gone", p.name)
	}
	p.started = true
	var again []wire.Packet
	for _, f := range p.inflight {
		if f.released {
			again = append(again, wire.Pubrel(f.id))
		} else {
			again = append(again, p.packet(f, true))
		}
	}
	return l.send(again...)
}

func (p *publisher) packet(f flight, dup bool) wire.Publish {
	m := p.sent[f.n]
	return wire.Publish{Dup: dup, Topic: m.Topic, QoS: m.QoS, ID: f.id, Payload: payload(p.name, f.n)}
}

// next sends a message, if the window allows it.
func (p *publisher) next(l *link) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.sent)
	if len(p.inflight) >= p.Window || p.Count > 0 && n >= p.Count {
		return nil
	}
	f := flight{n: n, id: p.freeID()}
	p.sent = append(p.sent, Sent{Topic: p.Topics[n%len(p.Topics)], QoS: p.QoS[n/len(p.Topics)%len(p.QoS)], At: p.run.now(), Session: p.session})
	p.inflight = append(p.inflight, f)
	return l.send(p.packet(f, false))
}

func (p *publisher) freeID() uint16 {
	for {
		p.lastID++
		used := p.lastID == 0
		for _, f := range p.inflight {
			used = used || f.id == p.lastID
		}
		if !used {
			return p.lastID
		}
	}
}

// take handles an answer.
func (p *publisher) take(l *link, packet wire.Packet) error {
	a, ok := packet.(wire.Ack)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.inflight {
		f := &p.inflight[i]
		if f.id != a.ID {
			continue
		}
		m := &p.sent[f.n]
		if a.Code >= 0x80 && a.Type != wire.PUBCOMP {
			p.run.breaks("%s: message %d was refused: %+v", p.name, f.n, a)
		}
		if m.Acked == 0 && (a.Type == wire.PUBACK || a.Type == wire.PUBREC) {
			m.Acked = p.run.now()
		}
		switch {
		case a.Type == wire.PUBREC && m.QoS == 2:
			f.released = true
			return l.send(wire.Pubrel(a.ID))
		case a.Type == wire.PUBACK && m.QoS == 1, a.Type == wire.PUBCOMP && f.released:
			p.inflight = append(p.inflight[:i], p.inflight[i+1:]...)
		default:
			p.run.breaks("%s: %+v for message %d of QoS %d", p.name, a, f.n, m.QoS)
		}
		return nil
	}
	p.run.breaks("%s: %+v for nothing under way", p.name, a)
	return nil
}

func payload(name string, n int) string { return name + " " + strconv.Itoa(n) }

// parsePayload is the reverse of payload.
func parsePayload(s string) (name string, n int) {
	name, number, _ := strings.Cut(s, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return s, -1
	}
	return name, n
}
