package redis

import (
	"encoding/base64"
	"hash/fnv"
	"strconv"

	"github.com/sluice-mqtt/sluice/backend"
)

// How many keys share what belongs to no client alone. They are part of the
// data: all gateways must agree.
const (
	indexBuckets    = 16
	dueBuckets      = 16
	retainedBuckets = 64
)

// keys makes the names of keys; it is the prefix of all.
type keys string

// tag returns a name whose hash tag is one identifier's own.
func (k keys) tag(kind, id string) string {
	return string(k) + "{" + kind + ":" + base64.RawURLEncoding.EncodeToString([]byte(id)) + "}:"
}

func (k keys) numbered(kind string, n int) string {
	return string(k) + "{" + kind + ":" + strconv.Itoa(n) + "}"
}

// bucketOf spreads identifiers over n buckets.
func bucketOf(id string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return int(h.Sum32() % uint32(n))
}

func (k keys) nodes() string   { return string(k) + "{nodes}" }
func (k keys) queues() string  { return string(k) + "{queues}" }
func (k keys) version() string { return string(k) + "{v}" }
func (k keys) users() string   { return string(k) + "{users}" }
func (k keys) rules() string   { return string(k) + "{rules}" }

func (k keys) run(id backend.NodeID) string     { return k.tag("g", string(id)) + "l" }
func (k keys) clients(id backend.NodeID) string { return k.tag("g", string(id)) + "o" }

func (k keys) due(n int) string { return k.numbered("d", n) }

func (k keys) directory(n int) string { return k.numbered("s", n) + ":d" }
func (k keys) log(n int) string       { return k.numbered("s", n) + ":l" }
func (k keys) changes(n int) string   { return k.numbered("s", n) + ":n" }

// retained returns the keys of a bucket of retained messages, as the scripts
// take them.
func (k keys) retained(n int) []string {
	b := k.numbered("r", n)
	return []string{b + ":m", b + ":t", b + ":e", b + ":b"}
}

// sessionKeys are the keys of one client.
type sessionKeys string

func (k keys) session(c backend.ClientID) sessionKeys { return sessionKeys(k.tag("c", string(c))) }

func (k sessionKeys) meta() string                { return string(k) + "m" }
func (k sessionKeys) inbox(box string) string     { return string(k) + "i:" + box }
func (k sessionKeys) subs() string                { return string(k) + "s" }
func (k sessionKeys) replays() string             { return string(k) + "p" }
func (k sessionKeys) receipts(inc string) string  { return string(k) + "r:" + inc }
func (k sessionKeys) seen() (newer, older string) { return string(k) + "d0", string(k) + "d1" }
func (k sessionKeys) chores() (what, when string) { return string(k) + "k", string(k) + "t" }

// all returns the keys for a script on the whole session.
func (k sessionKeys) all(at seat, next string) []string {
	newer, older := k.seen()
	what, when := k.chores()
	return []string{
		k.meta(), k.inbox(at.box), k.inbox(next), k.receipts(at.inc),
		k.subs(), k.replays(), newer, older, what, when,
	}
}

// groupKeys are the keys of one shared group.
type groupKeys string

func (k keys) group(filter string) groupKeys { return groupKeys(k.tag("q", filter)) }

func (k groupKeys) members() string { return string(k) + "m" }
func (k groupKeys) queue() string   { return string(k) + "q" }
func (k groupKeys) figures() string { return string(k) + "n" }
func (k groupKeys) taken() string   { return string(k) + "k" }
func (k groupKeys) until() string   { return string(k) + "z" }
func (k groupKeys) seen() (newer, older string) {
	return string(k) + "d0", string(k) + "d1"
}
func (k groupKeys) picks() (newer, older string) {
	return string(k) + "p0", string(k) + "p1"
}
