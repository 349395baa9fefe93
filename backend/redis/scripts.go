package redis

import (
	"context"
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var sources embed.FS

// script is one of the Lua scripts in lua, which say what they do.
type script struct {
	source, sha string
	// each: one run may be for several clients, with the keys of each, and
	// answers for each.
	each bool
}

// newScript joins a script with the libraries that it uses.
func newScript(name string, libraries ...string) *script {
	var b strings.Builder
	for _, file := range append(libraries, name) {
		text, err := sources.ReadFile("lua/" + file + ".lua")
		if err != nil {
			panic("redis: " + err.Error()) // a name below is wrong
		}
		b.Write(text)
	}
	sum := sha1.Sum([]byte(b.String()))
	s := &script{source: b.String(), sha: hex.EncodeToString(sum[:])}
	scriptNames[s.source], scriptNames[s.sha] = name, name
	return s
}

// scriptNames finds the name of a script by its source or its sum, for figures.
var scriptNames = make(map[string]string)

func sessionScript(name string) *script {
	return newScript(name, "lib_clock", "lib_inbox", "lib_session")
}

// frugalScript is one on sessions for which a full server has room.
func frugalScript(name string) *script {
	return newScript(name, "lib_clock", "lib_inbox", "lib_session", "lib_room")
}

func forEach(s *script) *script {
	s.each = true
	return s
}

func leaseScript(name string, more ...string) *script {
	return newScript(name, append([]string{"lib_clock", "lib_lease"}, more...)...)
}

var (
	claimScript   = sessionScript("claim")
	beginScript   = forEach(newScript("begin", "lib_clock"))
	endScript     = forEach(newScript("end", "lib_clock", "lib_room"))
	releaseScript = frugalScript("release")
	settleScript  = frugalScript("settle")
	destroyScript = frugalScript("destroy")
	finishScript  = newScript("finish")
	unnameScript  = newScript("unname")

	subscribeScript   = leaseScript("subscribe")
	unsubscribeScript = leaseScript("unsubscribe")
	replayedScript    = leaseScript("replayed")
	checkScript       = leaseScript("check")
	forgetScript      = leaseScript("forget", "lib_room")
	fetchScript       = leaseScript("fetch", "lib_inbox")
	reviewScript      = leaseScript("review", "lib_inbox")
	advanceScript     = leaseScript("advance", "lib_inbox", "lib_room")
	enqueueScript     = leaseScript("enqueue", "lib_inbox", "lib_seen")

	appendScript  = newScript("append", "lib_clock", "lib_inbox", "lib_seen")
	receiveScript = newScript("receive", "lib_clock")

	dumpScript = newScript("dump", "lib_clock")
	logScript  = newScript("log")

	runScript     = newScript("run", "lib_room")
	joinScript    = newScript("join", "lib_clock", "lib_room")
	renewScript   = newScript("renew", "lib_clock", "lib_room")
	leaveScript   = newScript("leave", "lib_clock", "lib_room")
	removeScript  = newScript("remove", "lib_clock")
	enlistScript  = newScript("enlist", "lib_clock", "lib_room")
	dismissScript = newScript("dismiss")

	scheduleScript = newScript("schedule", "lib_room")
	dueScript      = newScript("due", "lib_clock")
	settledScript  = newScript("settled")

	joinGroupScript  = newScript("join_group")
	leaveGroupScript = newScript("leave_group")
	parkScript       = newScript("park", "lib_clock", "lib_inbox", "lib_seen")
	pickScript       = newScript("pick", "lib_clock", "lib_seen")
	unparkScript     = newScript("unpark")
	takeScript       = newScript("take", "lib_clock", "lib_inbox")
	tookScript       = newScript("took")
	giveBackScript   = newScript("give_back", "lib_clock", "lib_inbox")

	retainScript = newScript("retain", "lib_retained")
	purgeScript  = newScript("purge", "lib_clock", "lib_retained")
	scanScript   = newScript("scan", "lib_clock")
)

// call is one run of a script, with its outcome.
type call struct {
	script *script // nil to read fields of a hash, the arguments
	keys   []string
	args   []any
	// more are further arguments. Calls that differ in nothing else, but
	// maybe in their keys if one client has one, may be made as one, which
	// has all of theirs.
	more  []any
	reply reply
	err   error
}

// command returns what is sent: a script by its sum, or whole.
func (c *call) command(ctx context.Context, whole bool) *goredis.Cmd {
	words, first := make([]any, 0, 3+len(c.keys)+len(c.args)+len(c.more)), int8(1)
	switch {
	case c.script == nil:
		words = append(words, "hmget")
	case whole:
		words, first = append(words, "eval", c.script.source, len(c.keys)), 3
	default:
		words, first = append(words, "evalsha", c.script.sha, len(c.keys)), 3
	}
	for _, key := range c.keys {
		words = append(words, key)
	}
	cmd := goredis.NewCmd(ctx, append(append(words, c.args...), c.more...)...)
	cmd.SetFirstKeyPos(first)
	return cmd
}

func (c *call) take(cmd *goredis.Cmd) {
	v, err := cmd.Result()
	c.reply, c.err = reply{}, err
	if err != nil {
		return
	}
	if list, ok := v.([]any); ok {
		c.reply = list
	} else {
		c.reply = reply{v}
	}
}

func missing(err error) bool { return err != nil && goredis.HasErrorPrefix(err, "NOSCRIPT") }

// run carries calls out in one pipeline, in order for those of one server; one
// that the server's cache had lost runs after the others. It returns the first
// error.
func (s *Store) run(ctx context.Context, calls ...*call) error {
	if len(calls) == 0 {
		return nil
	}
	s.send(ctx, calls, false)
	var again []*call
	for _, c := range calls {
		if missing(c.err) {
			again = append(again, c)
		}
	}
	if len(again) > 0 {
		s.send(ctx, again, true)
	}
	for _, c := range calls {
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

func (s *Store) send(ctx context.Context, calls []*call, whole bool) {
	if len(calls) == 1 {
		cmd := calls[0].command(ctx, whole)
		_ = s.client.Process(ctx, cmd) // the command has its error
		calls[0].take(cmd)
		return
	}
	p := s.client.Pipeline()
	cmds := make([]*goredis.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = c.command(ctx, whole)
		_ = p.Process(ctx, cmds[i]) // only collects
	}
	_, _ = p.Exec(ctx) // each command has its own error
	for i, c := range calls {
		c.take(cmds[i])
	}
}

// runOne carries out one call.
func (s *Store) runOne(ctx context.Context, sc *script, keys []string, args ...any) (reply, error) {
	c := &call{script: sc, keys: keys, args: args}
	err := s.run(ctx, c)
	return c.reply, err
}

// inOrder carries out steps of which each must be done before the next begins.
// On a single server that takes one pipeline.
func (s *Store) inOrder(ctx context.Context, steps ...[]*call) error {
	if !s.clustered {
		return s.runMerged(ctx, slices.Concat(steps...))
	}
	for _, step := range steps {
		if err := s.run(ctx, step...); err != nil {
			return err
		}
	}
	return nil
}

// reply is the answer of a script: a list. What is not there is empty.
type reply []any

func (r reply) int(i int) int64 {
	if i >= len(r) {
		return 0
	}
	n, _ := r[i].(int64)
	return n
}

func (r reply) str(i int) string {
	if i >= len(r) {
		return ""
	}
	s, _ := r[i].(string)
	return s
}

func (r reply) list(i int) reply {
	if i >= len(r) {
		return nil
	}
	l, _ := r[i].([]any)
	return l
}

// parseNumber reads a number that Redis keeps; what is absent is 0.
func parseNumber(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}
