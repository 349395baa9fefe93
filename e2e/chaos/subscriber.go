package chaos

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// Subscriber says how one subscribes. Its session is durable.
type Subscriber struct {
	Name    string
	Version wire.Version
	Filters []wire.Filter
	// ReceiveMaximum is told in MQTT 5; 0 is none.
	ReceiveMaximum uint16
	// Away and Home: it is connected for Home, then not for Away. 0: always
	// connected.
	Away, Home time.Duration
}

// subscriber receives and acknowledges.
type subscriber struct {
	Subscriber
	run        *Run
	subscribed chan struct{} // closed at the first SUBACK

	mu            sync.Mutex
	subscriptions []Subscription
	receipts      []Receipt
	connected     time.Duration // when last
	started       bool
	pending       map[uint16]string // QoS 2 messages handed on and not released
}

// Subscribe starts a subscriber.
func (r *Run) Subscribe(s Subscriber) { r.sessions = append(r.sessions, r.subscribe(s)) }

// SubscribeShared starts members of a group, which get each message together.
// Their filters are those of the first.
func (r *Run) SubscribeShared(group string, members ...Subscriber) {
	for _, m := range members {
		r.groups[group] = append(r.groups[group], r.subscribe(m))
	}
}

func (r *Run) subscribe(s Subscriber) *subscriber {
	sub := &subscriber{Subscriber: s, run: r, subscribed: make(chan struct{}), pending: map[uint16]string{}}
	r.clients.Go(func() { sub.loop(r.ctx) }) // ends with the run
	return sub
}

// AwaitSubscribed waits until all subscribers have their SUBACK, and reports
// whether they have.
func (r *Run) AwaitSubscribed(limit time.Duration) bool {
	timeout := time.After(limit)
	all := append([]*subscriber(nil), r.sessions...)
	for _, members := range r.groups {
		all = append(all, members...)
	}
	for _, s := range all {
		select {
		case <-s.subscribed:
		case <-timeout:
			return false
		}
	}
	return true
}

func (s *subscriber) history() Receiver {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Receiver{
		Name:          s.Name,
		Subscriptions: append([]Subscription(nil), s.subscriptions...),
		Receipts:      append([]Receipt(nil), s.receipts...),
	}
}

func (s *subscriber) connect() wire.Connect {
	c := wire.Connect{Version: s.Version, ClientID: s.run.prefix + s.Name}
	if s.Version == wire.V5 {
		c.Props = wire.Props{wire.U32Prop(wire.SessionExpiryID, 3600)}
		if s.ReceiveMaximum > 0 {
			c.Props = append(c.Props, wire.U16Prop(wire.ReceiveMaximumID, s.ReceiveMaximum))
		}
	}
	return c
}

func (s *subscriber) loop(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		l, err := open(ctx, s.run.address, s.connect())
		if err != nil {
			pause(ctx, attempt)
			continue
		}
		attempt = 0
		s.serve(ctx, l)
		l.drop()
		if s.Away > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(s.Away):
			}
		}
		pause(ctx, 0)
	}
}

// serve receives over one connection.
func (s *subscriber) serve(ctx context.Context, l *link) {
	if err := s.resume(l); err != nil {
		return
	}
	if s.Home == 0 {
		s.run.online.Add(1)
		defer s.run.online.Add(-1)
	}
	pings := time.NewTicker(pingEvery / 4)
	defer pings.Stop()
	var leave <-chan time.Time
	if s.Home > 0 && s.granted() {
		leave = time.After(s.Home)
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-leave:
			return
		case packet, ok := <-l.packets:
			if !ok {
				return
			}
			l.heard = time.Now()
			err = s.take(l, packet)
		case <-pings.C:
			err = l.tick()
		}
		if err != nil {
			return
		}
	}
}

func (s *subscriber) granted() bool {
	select {
	case <-s.subscribed:
		return true
	default:
		return false
	}
}

func (s *subscriber) resume(l *link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected = s.run.now()
	if s.started && !l.connack.SessionPresent {
		s.run.breaks("%s: the session is gone", s.Name)
		clear(s.pending)
	}
	s.started = true
	if l.connack.SessionPresent && s.granted() {
		return nil
	}
	return l.send(wire.Subscribe{ID: 1, Filters: s.Filters})
}

func (s *subscriber) take(l *link, packet wire.Packet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch p := packet.(type) {
	case wire.Suback:
		for i, f := range s.Filters {
			if i >= len(p.Codes) || p.Codes[i] != f.Options&3 {
				s.run.breaks("%s: %+v for %+v", s.Name, p, s.Filters)
				return nil
			}
			s.subscriptions = append(s.subscriptions, Subscription{Filter: f.Topic, QoS: f.Options & 3, From: s.run.now()})
		}
		if !s.granted() {
			close(s.subscribed)
		}
	case wire.Publish:
		return s.message(l, p)
	case wire.Ack:
		if p.Type == wire.PUBREL {
			delete(s.pending, p.ID)
			return l.send(wire.Pubcomp(p.ID))
		}
		s.run.breaks("%s: %+v", s.Name, p)
	}
	return nil
}

// message hands a message on and acknowledges it.
func (s *subscriber) message(l *link, p wire.Publish) error {
	name, n := parsePayload(p.Payload)
	receipt := Receipt{Sender: name, N: n, Topic: p.Topic, QoS: p.QoS, Dup: p.Dup, At: s.run.now(), Client: s.Name, Since: s.connected}
	switch p.QoS {
	case 1:
		s.receipts = append(s.receipts, receipt)
		return l.send(wire.Puback(p.ID))
	case 2:
		before, known := s.pending[p.ID]
		if known && before != p.Payload {
			s.run.breaks("%s: identifier %d is of %q and of %q", s.Name, p.ID, before, p.Payload)
		}
		if !known {
			s.pending[p.ID] = p.Payload
			s.receipts = append(s.receipts, receipt)
		}
		return l.send(wire.Pubrec(p.ID))
	}
	s.receipts = append(s.receipts, receipt)
	return nil
}
