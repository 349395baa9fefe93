package chaos

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

// History is what clients saw of a run. Times are since its begin.
type History struct {
	Senders   []Sender
	Receivers []Receiver
	// Broken are promises seen to be broken while the run went on: a session
	// that was gone, an identifier used twice, a refusal.
	Broken []string
	// Faults are what was done to the cluster.
	Faults []string
}

// Sender is one publisher: message n is Sent[n]. The wills of all clients are
// those of one sender.
type Sender struct {
	Name  string
	Wills bool
	Sent  []Sent
}

// Sent is one message. A will is sent when its client connects, and
// acknowledged when the connection has ended without DISCONNECT.
type Sent struct {
	Topic string
	QoS   byte
	At    time.Duration
	Acked time.Duration // 0: never
	// Session counts those of the sender: order is kept within one.
	Session int
}

// Receiver is one durable session, or the members of a shared group together.
type Receiver struct {
	Name string
	// Unordered is set where messages are spread over members.
	Unordered     bool
	Subscriptions []Subscription
	Receipts      []Receipt
}

// Subscription is one filter and how long it held.
type Subscription struct {
	Filter string
	QoS    byte
	From   time.Duration // SUBACK came
	Until  time.Duration // UNSUBSCRIBE was sent; 0: never
	Gone   time.Duration // UNSUBACK came; 0: never
}

// Receipt is one message that came. QoS 2 messages count when they are handed
// on, which is once an exchange.
type Receipt struct {
	Sender string
	N      int
	Topic  string
	QoS    byte
	Dup    bool
	At     time.Duration
	// Client received it, over a connection that there was since then.
	Client string
	Since  time.Duration
}

// Save writes the history as text, a line an event.
func (h *History) Save(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for _, s := range h.Faults {
		fmt.Fprintln(w, "fault", s)
	}
	for _, s := range h.Broken {
		fmt.Fprintln(w, "broken", s)
	}
	for _, s := range h.Senders {
		for n, m := range s.Sent {
			fmt.Fprintln(w, "sent", s.Name, n, m.Topic, "qos", m.QoS, "at", m.At, "acked", m.Acked)
		}
	}
	for _, r := range h.Receivers {
		for _, s := range r.Subscriptions {
			fmt.Fprintln(w, "subscribed", r.Name, s.Filter, "qos", s.QoS, "from", s.From, "until", s.Until, s.Gone)
		}
		for _, m := range r.Receipts {
			fmt.Fprintln(w, "received", r.Name, m.Sender, m.N, m.Topic, "qos", m.QoS, "dup", m.Dup, "at", m.At, "by", m.Client, "since", m.Since)
		}
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
