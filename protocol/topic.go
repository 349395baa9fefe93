package protocol

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// ValidTopicName returns nil if topic is a name that a message can be published
// to, and else an [*Error] with TopicNameInvalid: a name has 1 to 65,535 bytes
// [MQTT-4.7.3-1] [MQTT-4.7.3-3], is a valid string without U+0000
// [MQTT-4.7.3-2], and has no wildcards [MQTT-4.7.0-1].
func ValidTopicName[T ~string | ~[]byte](topic T) error {
	switch checkTopic([]byte(topic)) {
	case topicFine:
		return nil
	case topicEmpty:
		return &Error{TopicNameInvalid, "empty topic name"}
	case topicWildcard:
		return &Error{TopicNameInvalid, "wildcard in topic name"}
	case topicTooLong:
		return &Error{TopicNameInvalid, "topic name longer than 65,535 bytes"}
	}
	return &Error{TopicNameInvalid, "topic name is not valid UTF-8 or contains U+0000"}
}

// topicState is what [checkTopic] found.
type topicState int

const (
	topicFine topicState = iota
	topicEmpty
	topicTooLong
	topicNotText
	topicWildcard
)

// checkTopic checks a topic name. It runs for every PUBLISH.
func checkTopic(b []byte) topicState {
	switch {
	case len(b) == 0:
		return topicEmpty
	case len(b) > maxString:
		return topicTooLong
	}
	if len(b) < 8 {
		for _, c := range b {
			if c-1 >= 0x7F || c == '+' || c == '#' {
				return checkTopicSlowly(b)
			}
		}
		return topicFine
	}
	for rest := b; ; rest = rest[8:] {
		if len(rest) < 8 {
			rest = b[len(b)-8:]
		}
		// As in validText; and '+' and '#' differ in one bit only, so that a
		// byte of y is 0 where x has one of them.
		x := binary.LittleEndian.Uint64(rest)
		y := (x | 0x08*ones) ^ '+'*ones
		if (x|(x-ones)|(y-ones))&highs != 0 {
			return checkTopicSlowly(b)
		}
		if len(rest) == 8 {
			return topicFine
		}
	}
}

func checkTopicSlowly(b []byte) topicState {
	zero, wildcard := findAny(b)
	switch {
	case zero || !utf8.Valid(b):
		return topicNotText
	case wildcard:
		return topicWildcard
	}
	return topicFine
}

// sharePrefix starts the filter of a shared subscription [MQTT-4.8.2-1].
const sharePrefix = "$share/"

// ValidFilter returns nil if filter can be subscribed to, and else an [*Error]
// with TopicFilterInvalid. The rules are those of [ValidTopicName], but '+' may
// stand for a whole level [MQTT-4.7.1-2] and '#' for all levels at the end
// [MQTT-4.7.1-1]. Behind "$share/" there must be a share name without wildcards
// and a filter, not empty either of them [MQTT-4.8.2-1] [MQTT-4.8.2-2].
func ValidFilter(filter string) error {
	switch {
	case filter == "":
		return &Error{TopicFilterInvalid, "empty topic filter"}
	case len(filter) > maxString:
		return &Error{TopicFilterInvalid, "topic filter longer than 65,535 bytes"}
	case !ValidString(filter):
		return &Error{TopicFilterInvalid, "topic filter is not valid UTF-8 or contains U+0000"}
	}
	if shared, ok := strings.CutPrefix(filter, sharePrefix); ok {
		group, rest, _ := strings.Cut(shared, "/")
		switch {
		case group == "" || strings.ContainsAny(group, "+#"):
			return &Error{TopicFilterInvalid, "share name empty or with a wildcard"}
		case rest == "":
			return &Error{TopicFilterInvalid, "shared subscription without a topic filter"}
		}
		filter = rest
	}
	for i := 0; i < len(filter); i++ {
		c := filter[i]
		if c != '+' && c != '#' {
			continue
		}
		last := i == len(filter)-1
		switch {
		case i > 0 && filter[i-1] != '/', !last && filter[i+1] != '/':
			return &Error{TopicFilterInvalid, "wildcard does not fill its level"}
		case c == '#' && !last:
			return &Error{TopicFilterInvalid, "# is not the last level"}
		}
	}
	return nil
}

// SplitShare splits the filter of a shared subscription, "$share/group/rest",
// into its share name and the filter to match with. For any other filter shared
// is false and rest is the filter. The filter must be valid.
func SplitShare(filter string) (group, rest string, shared bool) {
	s, ok := strings.CutPrefix(filter, sharePrefix)
	if !ok {
		return "", filter, false
	}
	group, rest, _ = strings.Cut(s, "/")
	return group, rest, true
}

// Match reports whether a message published to topic is for filter, both valid;
// of a shared subscription it takes what [SplitShare] calls rest. "a/#" matches
// "a" too [MQTT 5 §4.7.1.2]. Wildcards in the first level match no topic that
// begins with '$' [MQTT-4.7.2-1]. Case counts [MQTT-4.7.3-4].
func Match(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && strings.IndexAny(filter, "+#") == 0 {
		return false
	}
	for {
		f, filterRest, filterMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, topicRest, topicMore := strings.Cut(topic, "/")
		switch {
		case f != "+" && f != t:
			return false
		case !filterMore:
			return !topicMore
		case !topicMore:
			return filterRest == "#"
		}
		filter, topic = filterRest, topicRest
	}
}

// Levels is the number of levels of a topic name or filter, one more than it
// has slashes.
func Levels[T ~string | ~[]byte](topic T) int {
	n := 1
	for i := range len(topic) {
		if topic[i] == '/' {
			n++
		}
	}
	return n
}
