package chaos

import (
	"fmt"
	"strings"
	"time"
)

// Report is what a history says of the promises.
type Report struct {
	Acked     int // messages that were acknowledged to their publisher
	Lost      int // acknowledged, and not received by a session that matched
	Phantom   int // received, and never sent, or by a session that did not match, or with another QoS or topic
	Dup       int // received again, at QoS 1
	Dup2      int // received again, at QoS 2: never allowed
	Recovered int // never acknowledged, and received
	Disorder  int // first receipts of one session, topic and QoS out of the order of sending
	Broken    int // see History.Broken
	// MaxLag is the longest that an acknowledged message took to a session
	// since that was connected last. Wills have a time of their own and do
	// not count.
	MaxLag time.Duration
	// Findings describe what must not be, up to a number of each kind.
	Findings []string

	kinds map[string]int
}

// perKind is how many findings of a kind are described.
const perKind = 20

// Failed reports whether a promise was broken.
func (r *Report) Failed() bool {
	return r.Lost+r.Phantom+r.Dup2+r.Disorder+r.Broken > 0
}

// String is the line that every run prints.
func (r *Report) String() string {
	s := fmt.Sprintf("acked %d lost %d phantom %d dup %d recovered %d disorder %d maxlag %v, dup at QoS 2 %d",
		r.Acked, r.Lost, r.Phantom, r.Dup, r.Recovered, r.Disorder, r.MaxLag.Round(time.Millisecond), r.Dup2)
	if r.Broken > 0 {
		s += fmt.Sprintf(", broken %d", r.Broken)
	}
	return s
}

func (r *Report) find(kind string, n *int, format string, args ...any) {
	*n++
	if r.kinds[kind]++; r.kinds[kind] <= perKind {
		r.Findings = append(r.Findings, kind+": "+fmt.Sprintf(format, args...))
	}
}

// Check compares what was received with what was sent.
func Check(h *History) *Report {
	r := &Report{kinds: map[string]int{}}
	for _, b := range h.Broken {
		r.find("broken", &r.Broken, "%s", b)
	}
	received := map[string][]bool{} // by anybody
	for i := range h.Senders {
		s := &h.Senders[i]
		received[s.Name] = make([]bool, len(s.Sent))
		for _, m := range s.Sent {
			if m.Acked != 0 {
				r.Acked++
			}
		}
	}
	for i := range h.Receivers {
		checkReceiver(r, h, &h.Receivers[i], received)
	}
	for i := range h.Senders {
		s := &h.Senders[i]
		for n, m := range s.Sent {
			if m.Acked == 0 && received[s.Name][n] {
				r.Recovered++
			}
		}
	}
	return r
}

// stream is what is kept in order.
type stream struct {
	sender, topic string
	qos           byte
	session       int
}

func checkReceiver(r *Report, h *History, to *Receiver, received map[string][]bool) {
	senders := map[string]*Sender{}
	counts := map[string][]int{}
	for i := range h.Senders {
		s := &h.Senders[i]
		senders[s.Name], counts[s.Name] = s, make([]int, len(s.Sent))
	}
	last := map[stream]int{}
	for _, got := range to.Receipts {
		s := senders[got.Sender]
		if s == nil || got.N < 0 || got.N >= len(s.Sent) || s.Sent[got.N].At > got.At {
			r.find("phantom", &r.Phantom, "%s got %s %d at %v, which was not sent", to.Name, got.Sender, got.N, got.At)
			continue
		}
		m := &s.Sent[got.N]
		qos, ok := to.granted(m)
		switch {
		case got.Topic != m.Topic || !ok:
			r.find("phantom", &r.Phantom, "%s got %s %d at %v on %s, which it does not match; sent at %v on %s", to.Name, s.Name, got.N, got.At, got.Topic, m.At, m.Topic)
			continue
		case got.QoS != min(qos, m.QoS):
			r.find("phantom", &r.Phantom, "%s got %s %d at %v with QoS %d, want %d", to.Name, s.Name, got.N, got.At, got.QoS, min(qos, m.QoS))
			continue
		}
		received[s.Name][got.N] = true
		if counts[s.Name][got.N]++; counts[s.Name][got.N] > 1 {
			// A will of QoS 1 is published once too: what comes again is marked so.
			if got.QoS == 2 || s.Wills && !got.Dup {
				r.find("dup at QoS 2", &r.Dup2, "%s got %s %d again at %v, sent at %v, acked at %v", to.Name, s.Name, got.N, got.At, m.At, m.Acked)
			} else {
				r.Dup++
			}
			continue
		}
		if !s.Wills && m.Acked != 0 {
			r.MaxLag = max(r.MaxLag, got.At-max(m.Acked, got.Since))
		}
		of := stream{s.Name, m.Topic, m.QoS, m.Session}
		if before, ok := last[of]; ok && before > got.N && !to.Unordered && !s.Wills {
			r.find("disorder", &r.Disorder, "%s got %s %d at %v after %d of the same topic and QoS", to.Name, s.Name, got.N, got.At, before)
		}
		last[of] = max(last[of], got.N)
	}
	for name, n := range counts {
		for i := range n {
			if m := &senders[name].Sent[i]; n[i] == 0 && m.Acked != 0 && to.mustGet(m) {
				r.find("lost", &r.Lost, "%s never got %s %d, sent at %v on %s with QoS %d, acked at %v", to.Name, name, i, m.At, m.Topic, m.QoS, m.Acked)
			}
		}
	}
}

// granted is the highest QoS of the subscriptions that may have matched a
// message, and whether there are any.
func (to *Receiver) granted(m *Sent) (qos byte, ok bool) {
	for _, s := range to.Subscriptions {
		if matches(s.Filter, m.Topic) && (s.Gone == 0 || m.At <= s.Gone) {
			qos, ok = max(qos, s.QoS), true
		}
	}
	return qos, ok
}

// mustGet reports whether a subscription held all the time from the message's
// sending to its acknowledgement. That of a will is its publishing, which
// comes later.
func (to *Receiver) mustGet(m *Sent) bool {
	for _, s := range to.Subscriptions {
		if matches(s.Filter, m.Topic) && s.From <= m.At && (s.Until == 0 || m.Acked <= s.Until) {
			return true
		}
	}
	return false
}

// matches is the matching of MQTT, without the rule for $, which no topic here
// begins with.
func matches(filter, topic string) bool {
	if rest, ok := strings.CutPrefix(filter, "$share/"); ok {
		_, filter, _ = strings.Cut(rest, "/")
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t), level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}
