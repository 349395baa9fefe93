package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const second = time.Second

// healthy is a history without fault: ten messages of a publisher, one each
// second, acknowledged half a second later, to a session with everything and to
// a group.
func healthy() *History {
	h := &History{Senders: []Sender{{Name: "p"}}}
	all := Receiver{Name: "s", Subscriptions: []Subscription{{Filter: "t/#", QoS: 2}}}
	for n := range 10 {
		at := time.Duration(n+1) * second
		m := Sent{Topic: fmt.Sprintf("t/%d", n%2), QoS: byte(1 + n/5), At: at, Acked: at + second/2}
		h.Senders[0].Sent = append(h.Senders[0].Sent, m)
		all.Receipts = append(all.Receipts, Receipt{Sender: "p", N: n, Topic: m.Topic, QoS: m.QoS, At: at + second})
	}
	group := all
	group.Name, group.Unordered, group.Receipts = "g", true, append([]Receipt(nil), all.Receipts...)
	group.Subscriptions = []Subscription{{Filter: "$share/g/t/+", QoS: 2}}
	h.Receivers = []Receiver{all, group}
	return h
}

// Each row damages the healthy history in one way, and the report must say so
// and nothing else.
func TestCheck(t *testing.T) {
	receipts := func(h *History) *[]Receipt { return &h.Receivers[0].Receipts }
	tests := []struct {
		name   string
		damage func(h *History)
		want   Report
	}{
		{"nothing", func(h *History) {}, Report{Acked: 10}},
		{"lost", func(h *History) { *receipts(h) = (*receipts(h))[1:] }, Report{Acked: 10, Lost: 1}},
		{"lost last", func(h *History) { *receipts(h) = (*receipts(h))[:9] }, Report{Acked: 10, Lost: 1}},
		{"lost by the group", func(h *History) { h.Receivers[1].Receipts = h.Receivers[1].Receipts[2:] }, Report{Acked: 10, Lost: 2}},
		{"lost by everybody", func(h *History) { h.Receivers[0].Receipts, h.Receivers[1].Receipts = nil, nil }, Report{Acked: 10, Lost: 20}},
		{"not acked and not received", func(h *History) {
			h.Senders[0].Sent[9].Acked = 0
			for i := range h.Receivers {
				h.Receivers[i].Receipts = h.Receivers[i].Receipts[:9]
			}
		}, Report{Acked: 9}},
		{"recovered", func(h *History) { h.Senders[0].Sent[3].Acked = 0 }, Report{Acked: 9, Recovered: 1}},
		{"never sent", func(h *History) {
			*receipts(h) = append(*receipts(h), Receipt{Sender: "p", N: 10, Topic: "t/0", QoS: 1, At: 20 * second})
		}, Report{Acked: 10, Phantom: 1}},
		{"unknown sender", func(h *History) {
			*receipts(h) = append(*receipts(h), Receipt{Sender: "q", N: 0, Topic: "t/0", QoS: 1, At: 20 * second})
		}, Report{Acked: 10, Phantom: 1}},
		{"another topic", func(h *History) { (*receipts(h))[4].Topic = "t/9" }, Report{Acked: 10, Phantom: 1, Lost: 1}},
		{"another QoS", func(h *History) { (*receipts(h))[4].QoS = 0 }, Report{Acked: 10, Phantom: 1, Lost: 1}},
		{"before it was sent", func(h *History) { (*receipts(h))[4].At = 0 }, Report{Acked: 10, Phantom: 1, Lost: 1}},
		{"does not match", func(h *History) { h.Receivers[0].Subscriptions[0].Filter = "t/0" }, Report{Acked: 10, Phantom: 5}},
		{"subscribed later", func(h *History) { h.Receivers[0].Subscriptions[0].From = 5 * second; *receipts(h) = (*receipts(h))[4:] }, Report{Acked: 10}},
		{"unsubscribed, still under way", func(h *History) {
			s := &h.Receivers[0].Subscriptions[0]
			s.Until, s.Gone = 6*second, 7*second
			*receipts(h) = (*receipts(h))[:7]
		}, Report{Acked: 10}},
		{"sent after UNSUBACK", func(h *History) {
			s := &h.Receivers[0].Subscriptions[0]
			s.Until, s.Gone = 6*second, 6500*time.Millisecond
			*receipts(h) = (*receipts(h))[:7]
		}, Report{Acked: 10, Phantom: 1}},
		{"twice at QoS 1", func(h *History) {
			again := (*receipts(h))[2]
			again.At, again.Dup = 20*second, true
			*receipts(h) = append(*receipts(h), again)
		}, Report{Acked: 10, Dup: 1}},
		{"twice at QoS 2", func(h *History) { *receipts(h) = append(*receipts(h), (*receipts(h))[9]) }, Report{Acked: 10, Dup2: 1}},
		{"twice in the group", func(h *History) {
			h.Receivers[1].Receipts = append(h.Receivers[1].Receipts, h.Receivers[1].Receipts[8])
		}, Report{Acked: 10, Dup2: 1}},
		{"out of order", func(h *History) { r := *receipts(h); r[1], r[3] = r[3], r[1] }, Report{Acked: 10, Disorder: 1}},
		{"out of order among sessions", func(h *History) {
			for n := 3; n < 10; n++ {
				h.Senders[0].Sent[n].Session = 1
			}
			r := *receipts(h)
			r[1], r[3] = r[3], r[1]
		}, Report{Acked: 10}},
		{"out of order among topics", func(h *History) { r := *receipts(h); r[1], r[2] = r[2], r[1] }, Report{Acked: 10}},
		{"out of order among QoS", func(h *History) { r := *receipts(h); r[3], r[5] = r[5], r[3] }, Report{Acked: 10}},
		{"out of order in the group", func(h *History) { r := h.Receivers[1].Receipts; r[1], r[3] = r[3], r[1] }, Report{Acked: 10}},
		{"a will twice", func(h *History) {
			h.Senders[0].Wills = true
			*receipts(h) = append(*receipts(h), (*receipts(h))[9])
		}, Report{Acked: 10, Dup2: 1}},
		{"a will of QoS 1 twice", func(h *History) {
			h.Senders[0].Wills = true
			*receipts(h) = append(*receipts(h), (*receipts(h))[1])
		}, Report{Acked: 10, Dup2: 1}},
		{"a will of QoS 1 repeated", func(h *History) {
			h.Senders[0].Wills = true
			again := (*receipts(h))[1]
			again.Dup = true
			*receipts(h) = append(*receipts(h), again)
		}, Report{Acked: 10, Dup: 1}},
		{"a will that did not come", func(h *History) { h.Senders[0].Wills = true; *receipts(h) = (*receipts(h))[1:] }, Report{Acked: 10, Lost: 1}},
		{"broken on the way", func(h *History) { h.Broken = []string{"the session is gone"} }, Report{Acked: 10, Broken: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := healthy()
			tt.damage(h)
			got := Check(h)
			if failed := tt.want.Lost+tt.want.Phantom+tt.want.Dup2+tt.want.Disorder+tt.want.Broken > 0; got.Failed() != failed || failed != (len(got.Findings) > 0) {
				t.Errorf("failed %v with findings %q", got.Failed(), got.Findings)
			}
			for _, f := range []struct {
				name      string
				got, want int
			}{
				{"acked", got.Acked, tt.want.Acked}, {"lost", got.Lost, tt.want.Lost}, {"phantom", got.Phantom, tt.want.Phantom},
				{"dup", got.Dup, tt.want.Dup}, {"dup at QoS 2", got.Dup2, tt.want.Dup2}, {"recovered", got.Recovered, tt.want.Recovered},
				{"disorder", got.Disorder, tt.want.Disorder}, {"broken", got.Broken, tt.want.Broken},
			} {
				if f.got != f.want {
					t.Errorf("%s is %d, want %d", f.name, f.got, f.want)
				}
			}
		})
	}
}

// The lag counts from the acknowledgement, or from the session's return.
func TestCheckLag(t *testing.T) {
	h := healthy()
	if got := Check(h).MaxLag; got != second/2 {
		t.Errorf("lag %v, want 500 ms", got)
	}
	h.Receivers[0].Receipts[9].At = 20 * second
	if got := Check(h).MaxLag; got != 9500*time.Millisecond {
		t.Errorf("lag %v, want 9.5 s", got)
	}
	h.Receivers[0].Receipts[9].Since = 17 * second
	if got := Check(h).MaxLag; got != 3*second {
		t.Errorf("lag %v, want 3 s", got)
	}
	h.Senders[0].Wills = true
	if got := Check(h).MaxLag; got != 0 {
		t.Errorf("lag %v of wills", got)
	}
}

// Of many findings of a kind some are described, and all are counted.
func TestCheckFindings(t *testing.T) {
	h := healthy()
	for n := range 100 {
		h.Receivers[0].Receipts = append(h.Receivers[0].Receipts, Receipt{Sender: "nobody", N: n})
	}
	if got := Check(h); got.Phantom != 100 || len(got.Findings) != perKind || !strings.Contains(got.String(), "phantom 100 ") {
		t.Errorf("%d findings in %v", len(got.Findings), got)
	}
}

func TestMatches(t *testing.T) {
	tests := []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/+", "a/b", true}, {"a/+", "a/b/c", false}, {"a/+", "a", false},
		{"a/#", "a/b/c", true}, {"a/#", "a", true}, {"a/#", "b", false}, {"#", "a", true}, {"a/b/c", "a/b", false},
		{"$share/g/a/+", "a/b", true}, {"$share/g/a/+", "b/b", false},
	}
	for _, tt := range tests {
		if got := matches(tt.filter, tt.topic); got != tt.want {
			t.Errorf("matches(%q, %q) = %v", tt.filter, tt.topic, got)
		}
	}
}
