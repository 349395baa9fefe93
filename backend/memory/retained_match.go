package memory

import (
	"context"
	"strings"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// stretch is how many retained messages a Match looks at before it lets others
// change them.
const stretch = 1024

// Match implements [backend.Retained].
func (s *Store) Match(ctx context.Context, filter, after string, atMost int) (page []*backend.Message, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	p := newPattern(filter)
	r := &s.retained
	if p.exact() {
		page = r.exact(filter, after, atMost)
		return page, false, nil
	}
	from := edge{p.fixed, before}
	if after != "" && compareTopics(after, p.fixed) >= 0 {
		from = edge{after, behind}
	}
	for {
		var left bool
		page, from, left = r.scan(&p, from, page, atMost+1)
		if len(page) > atMost {
			return page[:atMost], true, nil
		}
		if !left {
			return page, false, nil
		}
		if err := s.enter(ctx); err != nil {
			return nil, false, err
		}
	}
}

// exact returns the message of a topic, if it comes after the given one.
func (r *retained) exact(topic, after string, atMost int) []*backend.Message {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k := r.byTopic[topic]
	if k == nil || atMost <= 0 || after != "" && compareTopics(topic, after) <= 0 || k.message.Expired(time.Now()) {
		return nil
	}
	return []*backend.Message{k.message}
}

// scan adds to page what matches behind from, until the page is full or
// nothing is left, but for no longer than a stretch. It returns where to go
// on.
func (r *retained) scan(p *pattern, from edge, page []*backend.Message, full int) (_ []*backend.Message, next edge, left bool) {
	now := time.Now()
	r.mu.RLock()
	defer r.mu.RUnlock()
	at := r.ordered.seek(from)
	for range stretch {
		k := r.ordered.at(at)
		if k == nil || len(page) >= full {
			return page, from, false
		}
		topic := k.message.Topic
		matches, jump, over := p.check(topic)
		if over {
			return page, from, false
		}
		if matches && !k.message.Expired(now) {
			page = append(page, k.message)
		}
		at = r.ordered.next(at)
		from = jump
		if jump.kind == nowhere {
			from = edge{topic, behind}
		} else if k := r.ordered.at(at); k != nil && !jump.follows(k.message.Topic) {
			at = r.ordered.seek(jump)
		}
	}
	return page, from, true
}

// pattern is a filter with wildcards, for topics that come in order.
type pattern struct {
	levels []string
	below  bool   // ends with "/#", which is not among the levels
	wild   int    // the first level that is "+"; their number if none is
	fixed  string // what all topics that match begin with, whole levels
}

func newPattern(filter string) pattern {
	p := pattern{levels: strings.Split(filter, "/")}
	if last := len(p.levels) - 1; p.levels[last] == "#" {
		p.levels, p.below = p.levels[:last], true
	}
	for p.wild < len(p.levels) && p.levels[p.wild] != "+" {
		p.wild++
	}
	p.fixed = strings.Join(p.levels[:p.wild], "/")
	return p
}

// exact reports whether the filter has no wildcard.
func (p *pattern) exact() bool { return !p.below && p.wild == len(p.levels) }

// check reports whether topic matches. The next one that may match follows
// jump; with nowhere to jump it is the very next. None can if it is over.
func (p *pattern) check(topic string) (matches bool, jump edge, over bool) {
	if p.wild == 0 && strings.HasPrefix(topic, "$") {
		// Wildcards at the first level do not match it [MQTT-4.7.2-1]; '%'
		// is what follows '$'.
		return false, edge{"%", before}, false
	}
	pos := 0 // where the next level begins; behind the end if there is none
	for i, want := range p.levels {
		if pos > len(topic) { // too short
			if want == "+" {
				return false, edge{}, false
			}
			return false, edge{topic + "/" + want, before}, false
		}
		end := len(topic)
		if n := strings.IndexByte(topic[pos:], '/'); n >= 0 {
			end = pos + n
		}
		level := topic[pos:end]
		switch {
		case want == "+" || want == level:
			pos = end + 1
		case level < want:
			return false, edge{topic[:pos] + want, before}, false
		case i <= p.wild: // behind all that begin with fixed
			return false, edge{}, true
		default:
			return false, edge{topic[:pos-1], past}, false
		}
	}
	if p.below {
		return true, edge{}, false
	}
	return pos > len(topic), edge{topic[:pos-1], past}, false
}
