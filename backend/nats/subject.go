package nats

import (
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
)

// Subjects, below the prefix:
//
//	q.0.<levels>    QoS 0 messages, one token a level
//	q.1.<levels>    QoS 1 and 2 messages; q.*.<levels> is both
//	d.0. d.1.       the same for topics that begin with '$', so that wildcards
//	                at the first level miss them [MQTT-4.7.2-1]
//	all             messages whose subject would be too long, and what every
//	                gateway must know; every gateway hears it
//	node.<node>     notices and answers for one gateway
//	probe.<node>    what comes back to its sender
//
// A level is a token: bytes that mean something in NATS become %XX, and the
// empty level is a lone '%'. So every topic has exactly one subject and every
// subject one topic.

// maxSubject is the longest subject in bytes. A server takes control lines of
// 4,096 bytes if not told otherwise, and closes the connection on a longer
// one; names for routes and accounts need room in it as well.
const maxSubject = 1024

const hexDigits = "0123456789ABCDEF"

// appendToken appends one level as a token.
func appendToken(dst []byte, level string) []byte {
	if level == "" {
		return append(dst, '%')
	}
	for i := 0; i < len(level); i++ {
		switch c := level[i]; {
		case c <= ' ', c == 0x7f, c == '.', c == '*', c == '>', c == '%':
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendLevels appends levels as tokens, each after a dot, "+" as the wildcard
// that it is in filters. In topics there is no "+" [MQTT-3.3.2-2].
func appendLevels(dst []byte, levels string) []byte {
	for level := range strings.SplitSeq(levels, "/") {
		dst = append(dst, '.')
		if level == "+" {
			dst = append(dst, '*')
			continue
		}
		dst = appendToken(dst, level)
		if len(dst) > maxSubject {
			return dst
		}
	}
	return dst
}

// subjects makes the subjects of one prefix.
type subjects struct {
	prefix string
	all    string
}

func newSubjects(prefix string) subjects {
	return subjects{prefix: prefix, all: prefix + ".all"}
}

func (s *subjects) node(id backend.NodeID) string {
	return string(appendToken([]byte(s.prefix+".node."), string(id)))
}

func (s *subjects) probe(id backend.NodeID) string {
	return string(appendToken([]byte(s.prefix+".probe."), string(id)))
}

// root appends what stands in front of the levels of a topic, of one class, or
// of a filter.
func (s *subjects) root(dst []byte, name string, class backend.Class) []byte {
	dst = append(dst, s.prefix...)
	if strings.HasPrefix(name, "$") {
		dst = append(dst, ".d."...)
	} else {
		dst = append(dst, ".q."...)
	}
	switch class {
	case backend.ClassQoS0:
		return append(dst, '0')
	case backend.ClassAcked:
		return append(dst, '1')
	}
	return append(dst, '*')
}

// topic returns the subject of a topic.
func (s *subjects) topic(topic string, class backend.Class) string {
	if len(topic) > maxSubject { // a subject is longer than its topic
		return s.all
	}
	var buf [maxSubject + 64]byte
	b := appendLevels(s.root(buf[:0], topic, class), topic)
	if len(b) > maxSubject {
		return s.all
	}
	return string(b)
}

// filter returns the subjects of a filter for class. There are none if
// every topic that matches has too long a subject of its own, because a
// wildcard is never longer than what it stands for.
func (s *subjects) filter(filter string, class backend.Class) []string {
	parent, isTree := strings.CutSuffix(filter, "#")
	parent, hasParent := strings.CutSuffix(parent, "/")
	b := s.root(nil, filter, class)
	if !isTree {
		parent = filter
	} else if !hasParent { // "#"
		return []string{string(b) + ".>"}
	}
	b = appendLevels(b, parent)
	switch {
	case len(b) > maxSubject:
		return nil
	case isTree: // "a/#" matches "a" [MQTT-4.7.1-2]
		return []string{string(b), string(b) + ".>"}
	}
	return []string{string(b)}
}
