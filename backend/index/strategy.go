package index

import (
	"fmt"
	"slices"
)

// Strategy is how one member of a shared group is chosen for a message.
type Strategy uint8

const (
	// RoundRobin takes the connected members in turn.
	RoundRobin Strategy = iota
	// Random takes any of them.
	Random
	// LeastInFlight takes the one with the fewest messages still to take.
	LeastInFlight
	// LocalFirst takes those on the publisher's gateway in turn, and others
	// only if there are none.
	LocalFirst
	// Sticky stays with one member until it goes or can take no more.
	Sticky
	// HashClientID takes the same member for all messages of a publisher, for
	// as long as the connected members stay the same.
	HashClientID
	// HashTopic takes the same member for all messages of a topic, for as
	// long as the connected members stay the same.
	HashTopic
)

// strategyNames are the words for configuration files, by Strategy.
var strategyNames = []string{"round_robin", "random", "least_in_flight", "local_first", "sticky", "hash_client_id", "hash_topic"}

// String returns the name of s in configurations.
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return fmt.Sprintf("Strategy(%d)", uint8(s))
}

// MarshalText writes the name of s.
func (s Strategy) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name of a strategy.
func (s *Strategy) UnmarshalText(text []byte) error {
	i := slices.Index(strategyNames, string(text))
	if i < 0 {
		return fmt.Errorf("unknown strategy %q; known are %q", text, strategyNames)
	}
	*s = Strategy(i)
	return nil
}
