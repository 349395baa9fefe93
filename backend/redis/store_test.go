package redis

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// pair is two gateways, "a" and "b", on one state.
type pair struct {
	server *server
	direct *goredis.Client
	a, b   peered
}

func newPair(t testing.TB, change func(*Options)) *pair {
	t.Helper()
	srv := startServer(t)
	o := optionsFor(t, srv.url(), backendtest.StoreOptions{})
	if change != nil {
		change(&o)
	}
	p := &pair{server: srv, direct: srv.direct(t), a: open(t, o), b: open(t, o)}
	join(t, p.a, "a")
	join(t, p.b, "b")
	return p
}

func appendTo(t testing.TB, s peered, msgs ...*backend.Message) []backend.Append {
	t.Helper()
	out := make([]backend.Append, len(msgs))
	if err := s.Append(context.Background(), msgs, out); err != nil {
		t.Fatalf("Append: %v", err)
	}
	return out
}

func message(topic, payload string) *backend.Message {
	return &backend.Message{Topic: topic, Payload: []byte(payload), QoS: 1}
}

// inboxOf returns the payloads in the inbox of l.
func inboxOf(t testing.TB, s peered, l backend.Lease) []string {
	t.Helper()
	list, more, err := s.Fetch(context.Background(), l, 0, 100_000, 1<<30)
	if err != nil || more {
		t.Fatalf("Fetch: more %v, %v", more, err)
	}
	payloads := make([]string, len(list))
	for i, e := range list {
		payloads[i] = string(e.Message.Payload)
	}
	return payloads
}

func wantInbox(t testing.TB, s peered, l backend.Lease, want ...string) {
	t.Helper()
	if got := inboxOf(t, s, l); !slices.Equal(got, want) {
		t.Errorf("inbox %q, want %q", got, want)
	}
}

func subscription(filter string) backend.Subscription {
	return backend.Subscription{Filter: filter, QoS: 1}
}

// stop ends a gateway between two of its requests: the effect of the script is
// there, its reply is not, and nothing follows.
func stop(t testing.TB, p *pair, s peered, after *script, call func() error) {
	t.Helper()
	p.lose(t, after)
	if err := call(); !errors.Is(err, backend.ErrUnavailable) {
		t.Fatalf("a call whose reply was lost: %v, want ErrUnavailable", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// lose has the reply to the next run of a script lost.
func (p *pair) lose(t testing.TB, to *script) {
	t.Helper()
	if err := p.direct.ScriptLoad(t.Context(), to.source).Err(); err != nil {
		t.Fatal(err)
	}
	p.server.proxy.dropReplyTo(to)
}

// TestDiedWhileSubscribing: a gateway that died after it had changed a session
// and before it told the index leaves nothing that holds up others: the next
// append completes the change.
func TestDiedWhileSubscribing(t *testing.T) {
	p := newPair(t, nil)
	o := openSession(t, p.a, "a", "c", subscription("a"))
	appendTo(t, p.b, message("a", "1"))
	stop(t, p, p.a, subscribeScript, func() error {
		_, err := p.a.Subscribe(t.Context(), o.Lease, []backend.Subscription{subscription("b")}, nil)
		return err
	})
	if out := appendTo(t, p.b, message("a", "2")); !out[0].Matched || out[0].Refused != 0 {
		t.Errorf("outcome %+v, want a match", out[0])
	}
	appendTo(t, p.b, message("b", "3"))
	again := openSession(t, p.b, "b", "c")
	if len(again.Subscriptions) != 2 {
		t.Errorf("subscriptions %+v, want two", again.Subscriptions)
	}
	wantInbox(t, p.b, again.Lease, "1", "2", "3")
}

// TestResumedAfterDyingWhileSubscribing: what the session says of its
// subscriptions is what the index has, also when nothing was sent to it before
// it is resumed.
func TestResumedAfterDyingWhileSubscribing(t *testing.T) {
	p := newPair(t, nil)
	o := openSession(t, p.a, "a", "c")
	stop(t, p, p.a, subscribeScript, func() error {
		_, err := p.a.Subscribe(t.Context(), o.Lease, []backend.Subscription{subscription("a")}, nil)
		return err
	})
	again := openSession(t, p.b, "b", "c")
	if len(again.Subscriptions) != 1 {
		t.Fatalf("subscriptions %+v, want one", again.Subscriptions)
	}
	appendTo(t, p.b, message("a", "1"))
	wantInbox(t, p.b, again.Lease, "1")
}

// TestDiedWhileReleasing: an index entry for a session that is gone goes when
// its gateway is reaped.
func TestDiedWhileReleasing(t *testing.T) {
	p := newPair(t, nil)
	join(t, p.a, "short")
	o, err := p.a.Open(t.Context(), backend.OpenRequest{Client: "c", Node: "short"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.a.Subscribe(t.Context(), o.Lease, []backend.Subscription{subscription("$share/g/a")}, nil); err != nil {
		t.Fatal(err)
	}
	stop(t, p, p.a, releaseScript, func() error {
		_, err := p.a.Release(t.Context(), o.Lease, backend.ReleaseRequest{})
		return err
	})
	now := p.direct.Time(t.Context()).Val().UnixMilli()
	if err := p.direct.ZAdd(t.Context(), p.b.keys.nodes(), goredis.Z{Score: float64(now), Member: "short"}).Err(); err != nil {
		t.Fatal(err)
	}
	var ended []backend.Chore
	waitFor(t, "the end of the session", func() bool {
		due, _, err := p.b.Due(t.Context(), "b", 10)
		if err != nil {
			t.Fatal(err)
		}
		ended = append(ended, due...)
		return len(ended) > 0
	})
	if len(ended) != 1 || ended[0].Kind != backend.ChoreEnded {
		t.Errorf("chores %+v, want the end of the session", ended)
	}
	if out := appendTo(t, p.b, message("a", "x")); out[0].Matched {
		t.Errorf("outcome %+v, want no match", out[0])
	}
}

// waitFor waits until done reports true; nothing announces it.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestReplyToOpenLost: a connection that was refused because the store did not
// answer does not keep the session attached.
func TestReplyToOpenLost(t *testing.T) {
	for to, expiry := range map[*script]uint32{claimScript: 3600, beginScript: 0} {
		p := newPair(t, nil)
		p.lose(t, to)
		_, err := p.a.Open(t.Context(), backend.OpenRequest{Client: "c", Node: "a", Expiry: expiry})
		if !errors.Is(err, backend.ErrUnavailable) {
			t.Fatalf("Open: %v, want ErrUnavailable", err)
		}
		if at, _, err := p.b.look(t.Context(), "c"); at == noSeat || err != nil {
			t.Fatalf("there is no session: %v", err)
		}
		waitFor(t, "the session to be detached", func() bool {
			_, owner, err := p.b.look(t.Context(), "c")
			return err == nil && owner == ""
		})
	}
}

// TestNothingLeft: when a session has ended no key is left of it, whatever it
// had (F32).
func TestNothingLeft(t *testing.T) {
	p := newPair(t, nil)
	ctx := t.Context()
	ends := map[backend.ClientID]func(o *backend.Opened) ([]backend.Chore, error){
		"destroyed": func(o *backend.Opened) ([]backend.Chore, error) {
			_, due, err := p.b.Destroy(ctx, o.Lease.Client)
			return due, err
		},
		"released": func(o *backend.Opened) ([]backend.Chore, error) {
			zero := uint32(0)
			return p.a.Release(ctx, o.Lease, backend.ReleaseRequest{Expiry: &zero, KeepWill: true})
		},
		"clean start": func(o *backend.Opened) ([]backend.Chore, error) {
			again, err := p.b.Open(ctx, backend.OpenRequest{Client: o.Lease.Client, Node: "b", CleanStart: true})
			if err != nil {
				return nil, err
			}
			due, err := p.b.Release(ctx, again.Lease, backend.ReleaseRequest{})
			return append(again.Due, due...), err
		},
	}
	for client, end := range ends {
		will := &backend.Will{Message: message("will", "x")}
		o, err := p.a.Open(ctx, backend.OpenRequest{Client: client, Node: "a", Expiry: 3600, Will: will})
		if err != nil {
			t.Fatal(err)
		}
		subs := []backend.Subscription{subscription("a/#"), subscription("$share/g/b/" + string(client))}
		if _, err := p.a.Subscribe(ctx, o.Lease, subs, subs[:1]); err != nil {
			t.Fatal(err)
		}
		var batch []*backend.Message
		for i := range 1000 {
			m := message("a/x", "x")
			m.QoS, m.Publisher = 2, client
			m.ID = backend.PublishID{Client: client, Incarnation: o.Incarnation, PacketID: uint16(i + 1)}
			batch = append(batch, m, message("b/"+string(client), "x"))
		}
		appendTo(t, p.b, batch...)
		due, err := end(o)
		if err != nil {
			t.Fatalf("%s: %v", client, err)
		}
		if err := p.b.Finish(ctx, due); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	waitFor(t, "timers to be put away", func() bool {
		if _, _, err := p.b.Due(ctx, "b", 100); err != nil {
			t.Fatal(err)
		}
		left = nil
		for _, key := range p.direct.Keys(ctx, "*").Val() {
			for client := range ends {
				own := strings.Contains(key, base64.RawURLEncoding.EncodeToString([]byte(client)))
				// Receipts are kept for a moment, for repetitions on the way.
				if own && !strings.Contains(key, ":r:") && !strings.Contains(key, "{q:") {
					left = append(left, key)
				}
			}
			if strings.Contains(key, "{q:") || strings.Contains(key, "{d:") || strings.Contains(key, ":o") || strings.Contains(key, ":d") && strings.Contains(key, "{s:") {
				left = append(left, key)
			}
		}
		return len(left) == 0
	})
	for _, key := range p.direct.Keys(ctx, "*:r:*").Val() {
		if ttl := p.direct.PTTL(ctx, key).Val(); ttl <= 0 || ttl > keepReceipts {
			t.Errorf("%s: ends in %v", key, ttl)
		}
	}
}

// TestFlushed: when all data is gone leases are, and nothing hangs on what was
// known (F18).
func TestFlushed(t *testing.T) {
	p := newPair(t, nil)
	o := openSession(t, p.a, "a", "c", subscription("a"), subscription("$share/g/b"))
	if err := p.direct.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if out := appendTo(t, p.b, message("a", "x"), message("b", "x")); out[0].Matched || out[1].Matched {
		t.Errorf("outcome %+v, want no match", out)
	}
	if err := p.a.Renew(t.Context(), "a"); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Renew: %v, want ErrFenced", err)
	}
	if _, err := p.a.Subscribe(t.Context(), o.Lease, []backend.Subscription{subscription("b")}, nil); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Subscribe: %v, want ErrFenced", err)
	}
	join(t, p.a, "a again")
	if o = openSession(t, p.a, "a again", "c", subscription("a")); o.Present {
		t.Error("a session was resumed that is gone")
	}
	appendTo(t, p.b, message("a", "x"))
	wantInbox(t, p.a, o.Lease, "x")
}

// TestFarBehind: a gateway whose place in the log of changes is gone reads what
// there is anew.
func TestFarBehind(t *testing.T) {
	p := newPair(t, nil)
	ctx := t.Context()
	keep := openSession(t, p.a, "a", "keep", subscription("keep"))
	gone := openSession(t, p.a, "a", "gone", subscription("gone"))
	if err := p.b.replica.catchUp(ctx); err != nil {
		t.Fatal(err)
	}
	p.b.replica.mu.Lock() // it follows nothing now
	fresh := openSession(t, p.a, "a", "fresh", subscription("fresh"))
	if _, err := p.a.Unsubscribe(ctx, gone.Lease, []string{"gone"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.a.Destroy(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	for n := range indexBuckets {
		if err := p.direct.XTrimMaxLen(ctx, p.a.keys.log(n), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 { // so that every log has something behind the hole
		openSession(t, p.a, "a", backend.ClientID(fmt.Sprint("other", i)), subscription("other"))
	}
	p.b.replica.mu.Unlock()
	out := appendTo(t, p.b, message("keep", "1"), message("gone", "1"), message("fresh", "1"), message("other", "1"))
	if out[1].Matched || len(out[3].Targets) != 50 {
		t.Errorf("outcome %+v and %d others, want none and 50", out[1], len(out[3].Targets))
	}
	wantInbox(t, p.a, keep.Lease, "1")
	wantInbox(t, p.a, fresh.Lease, "1")
}

// TestInboxMissing: an inbox that somebody has deleted holds up nobody, and the
// session goes on when it is opened again.
func TestInboxMissing(t *testing.T) {
	p := newPair(t, nil)
	openSession(t, p.a, "a", "c", subscription("a"))
	other := openSession(t, p.a, "a", "other", subscription("a"))
	at, _ := p.a.seats.get("c")
	if err := p.direct.Del(t.Context(), p.a.keys.session("c").inbox(at.box)).Err(); err != nil {
		t.Fatal(err)
	}
	if out := appendTo(t, p.b, message("a", "1")); out[0].Refused != 1 {
		t.Errorf("outcome %+v, want one refusal", out[0])
	}
	wantInbox(t, p.a, other.Lease, "1")
	again := openSession(t, p.b, "b", "c")
	appendTo(t, p.b, message("a", "2"))
	wantInbox(t, p.b, again.Lease, "2")
}

// TestDropOldest: with this policy the newest messages are in a full inbox, and
// what the client has answered with PUBREC stays.
func TestDropOldest(t *testing.T) {
	p := newPair(t, func(o *Options) { o.InboxMessages, o.InboxFull = 3, DropOldest })
	o := openSession(t, p.a, "a", "c", backend.Subscription{Filter: "a", QoS: 2})
	refused := 0
	for i := range 3 {
		refused += appendTo(t, p.b, message("a", fmt.Sprint(i)))[0].Refused
	}
	if err := p.a.Advance(t.Context(), o.Lease, backend.Progress{Released: []uint64{1}}); err != nil {
		t.Fatal(err)
	}
	for i := 3; i < 6; i++ {
		refused += appendTo(t, p.b, message("a", fmt.Sprint(i)))[0].Refused
	}
	if refused != 3 {
		t.Errorf("%d messages are said to be lost, want 3", refused)
	}
	wantInbox(t, p.a, o.Lease, "0", "4", "5")
}

// TestLimitsAmongGateways: what several gateways append at once goes past a
// limit by no more than what was on its way.
func TestLimitsAmongGateways(t *testing.T) {
	const limit, each = 100, 200
	p := newPair(t, func(o *Options) { o.InboxMessages = limit })
	o := openSession(t, p.a, "a", "c", subscription("a"))
	for i := range each {
		appendTo(t, []peered{p.a, p.b}[i%2], message("a", "x"))
	}
	if n := len(inboxOf(t, p.a, o.Lease)); n < limit || n > limit+2 {
		t.Errorf("%d entries, the limit is %d", n, limit)
	}
}

// TestRepeatedToGroup: a QoS 2 message that is repeated at another gateway goes
// to the member that was chosen the first time [MQTT-4.3.3-13].
func TestRepeatedToGroup(t *testing.T) {
	p := newPair(t, nil)
	const members, messages = 4, 40
	var leases []backend.Lease
	for i := range members {
		c := backend.ClientID(fmt.Sprint("member", i))
		leases = append(leases, openSession(t, p.a, "a", c, backend.Subscription{Filter: "$share/g/a", QoS: 2}).Lease)
	}
	for i := range messages {
		m := message("a", fmt.Sprint(i))
		m.QoS, m.ID = 2, backend.PublishID{Client: "publisher", Incarnation: 7, PacketID: uint16(i + 1)}
		// The publisher's gateway died after it had stored the message and
		// before it noted that it had.
		letters := []letter{{m: m, out: &backend.Append{}, id: identityOf(m.ID)}}
		if err := p.a.deliver(t.Context(), letters); err != nil {
			t.Fatal(err)
		}
		if out := appendTo(t, p.b, m); out[0].Duplicate || len(out[0].Targets) != 1 {
			t.Errorf("outcome %+v, want one target", out[0])
		}
	}
	got := make(map[string]int)
	for _, l := range leases {
		for _, payload := range inboxOf(t, p.a, l) {
			got[payload]++
		}
	}
	for i := range messages {
		if n := got[fmt.Sprint(i)]; n != 1 {
			t.Errorf("message %d came %d times", i, n)
		}
	}
}

// TestTakerDied: what a gateway had taken from the queue of a group, and not
// stored, goes to a member that is there.
func TestTakerDied(t *testing.T) {
	p := newPair(t, nil)
	away := openSession(t, p.a, "a", "away", subscription("$share/g/a"))
	if _, err := p.a.Release(t.Context(), away.Lease, backend.ReleaseRequest{}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		appendTo(t, p.b, message("a", fmt.Sprint(i)))
	}
	list, left, err := p.a.take(t.Context(), "$share/g/a", 3)
	if err != nil || len(list) != 3 || left != 2 {
		t.Fatalf("%d taken, %d left, %v", len(list), left, err)
	}
	back := openSession(t, p.b, "b", "away")
	waitFor(t, "all messages", func() bool {
		if _, _, err := p.b.Due(t.Context(), "b", 10); err != nil {
			t.Fatal(err)
		}
		return len(inboxOf(t, p.b, back.Lease)) == 5
	})
	// Of a shared group there is no order to keep [MQTT-4.6.0-5]: the queue goes on
	// a moment before the claims end, which begin after what looks after them.
	got := inboxOf(t, p.b, back.Lease)
	slices.Sort(got)
	if !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("inbox %q, want each of five once", got)
	}
}

// TestWaitReplicas: an append is not acknowledged before the replicas have it.
func TestWaitReplicas(t *testing.T) {
	primary := startServer(t)
	host, port, _ := strings.Cut(primary.address, ":")
	replica := startServer(t, "--replicaof", host+" "+port)
	o := optionsFor(t, primary.url(), backendtest.StoreOptions{})
	o.WaitReplicas = 1
	s := open(t, o)
	join(t, s, "node")
	session := openSession(t, s, "node", "c", subscription("a"))
	waitFor(t, "the replica", func() bool {
		return strings.Contains(replica.direct(t).Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	waitFor(t, "the replica keeping up", func() bool {
		return s.Append(t.Context(), []*backend.Message{message("a", "1")}, make([]backend.Append, 1)) == nil
	})
	replica.Pause(t)
	err := s.Append(t.Context(), []*backend.Message{message("a", "2")}, make([]backend.Append, 1))
	replica.Resume(t)
	if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("Append while the replica is frozen: %v, want ErrUnavailable that names replicas", err)
	}
	waitFor(t, "the replica again", func() bool {
		return s.Append(t.Context(), []*backend.Message{message("a", "3")}, make([]backend.Append, 1)) == nil
	})
	if got := inboxOf(t, s, session.Lease); got[0] != "1" || got[len(got)-1] != "3" {
		t.Errorf("inbox %q", got)
	}
}
