package nats

import (
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats/subject"
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
// Levels are tokens as package subject makes them. So every topic has exactly
// one subject and every subject one topic.

// maxSubject is the longest subject in bytes. A server takes control lines of
// 4,096 bytes if not told otherwise, and closes the connection on a longer
// one; names for routes and accounts need room in it as well.
const maxSubject = 1024

// subjects makes the subjects of one prefix.
type subjects struct {
	prefix string
	all    string
}

func newSubjects(prefix string) subjects {
	return subjects{prefix: prefix, all: prefix + ".all"}
}

func (s *subjects) node(id backend.NodeID) string {
	return string(subject.AppendToken([]byte(s.prefix+".node."), string(id)))
}

func (s *subjects) probe(id backend.NodeID) string {
	return string(subject.AppendToken([]byte(s.prefix+".probe."), string(id)))
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
	b := subject.AppendLevels(s.root(buf[:0], topic, class), topic, maxSubject)
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
	b = subject.AppendLevels(b, parent, maxSubject)
	switch {
	case len(b) > maxSubject:
		return nil
	case isTree: // "a/#" matches "a" [MQTT-4.7.1-2]
		return []string{string(b), string(b) + ".>"}
	}
	return []string{string(b)}
}
