package nats

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestQueue(t *testing.T) {
	one := delivery{kind: kindMessages, count: 1, size: 100}
	three := delivery{kind: kindMessages, count: 3, size: 300}
	type act func(q *queue)
	push := func(list ...delivery) act { return func(q *queue) { q.push(list...) } }
	gap := func(text string) act { return func(q *queue) { q.gap(errors.New(text)) } }
	tests := []struct {
		name            string
		messages, bytes int
		acts            []act
		want            []string // what is taken, after all acts
		dropped         uint64
	}{
		{"in order", 9, 9999, []act{push(one, three), push(one)}, []string{"1", "3", "1"}, 0},
		{"full by messages", 4, 9999, []act{push(one, three, one, one)}, []string{"1", "3", "nats: 2 deliveries dropped: limit reached"}, 2},
		{"full by bytes", 99, 350, []act{push(three), push(one, one)}, []string{"3", "nats: 2 deliveries dropped: limit reached"}, 2},
		{"one above all limits", 2, 250, []act{push(three)}, []string{"3"}, 0},
		{"nothing is let in during a stall", 4, 9999, []act{push(one, one, three), push(one)}, []string{"1", "1", "nats: 4 deliveries dropped: limit reached"}, 4},
		{"lost in front of it", 9, 9999, []act{push(one), (*queue).lost, (*queue).lost}, []string{"1", "nats: 2 deliveries dropped: limit reached"}, 2},
		{"gaps go above the limit", 1, 9999, []act{push(one), gap("a")}, []string{"1", "a"}, 0},
		{"gaps with nothing between are one", 9, 9999, []act{push(one), gap("a"), gap("b"), push(one), gap("c")}, []string{"1", "a", "1", "c"}, 0},
		{"the gap of a stall is enough", 1, 9999, []act{push(one, one), gap("a")}, []string{"1", "nats: 1 deliveries dropped: limit reached"}, 1},
		{"more than a ring", 99999, 1 << 30, []act{push(slices.Repeat([]delivery{one}, 3*idleRing)...)}, slices.Repeat([]string{"1"}, 3*idleRing), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newQueue(tt.messages, tt.bytes)
			for _, a := range tt.acts {
				a(q)
			}
			var got []string
			gaps := uint64(0)
			for q.count > 0 || q.stalled > 0 {
				d, _, ok := q.pop()
				switch {
				case !ok:
					t.Fatal("closed")
				case d.gap != nil:
					got = append(got, d.gap.Error())
					gaps++
				default:
					got = append(got, fmt.Sprint(d.count))
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("took %q, want %q", got, tt.want)
			}
			if q.pending != 0 || q.bytes != 0 {
				t.Errorf("%d messages and %d bytes are counted in an empty queue", q.pending, q.bytes)
			}
			if g, d := q.counts(); g != gaps || d != tt.dropped {
				t.Errorf("%d gaps and %d dropped, want %d and %d", g, d, gaps, tt.dropped)
			}
			// A stall ends: it is let in again.
			q.push(one)
			if d, _, ok := q.pop(); !ok || d.count != 1 {
				t.Errorf("afterwards: %+v, %v", d, ok)
			}
			q.push(one)
			q.close()
			q.push(one)
			q.gap(errors.New("late"))
			if d, _, ok := q.pop(); ok {
				t.Errorf("after close: %+v", d)
			}
		})
	}
}
