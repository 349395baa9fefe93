package redis

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// overtaken is a server with a session that has read on, and what takes its
// place: data from before.
type overtaken struct {
	server *server
	s      peered // that has the session
	log    *logBook
	other  peered // another gateway
	fenced chan struct{}
	at     *backend.Opened
}

// newOvertaken opens a session whose inbox has what is given, and knows of.
func newOvertaken(t *testing.T, settings ...string) *overtaken {
	t.Helper()
	o := &overtaken{server: startServer(t, settings...), fenced: make(chan struct{}, 8)}
	options := optionsFor(t, o.server.url(), backendtest.StoreOptions{})
	st, log := watched(t, options)
	o.s, o.log, o.other = peered{st, options}, log, open(t, options)
	n := backend.Node{ID: "node", Fenced: func() { o.fenced <- struct{}{} }}
	if err := st.Join(t.Context(), n, time.Minute); err != nil {
		t.Fatal(err)
	}
	join(t, o.other, "other")
	o.at = openSession(t, o.s, "node", "c", subscription("a"))
	appendTo(t, o.s, message("a", "1"), message("a", "2"))
	return o
}

// wantNothingLost: what is appended to the older data is there for the client,
// though its connection has read past the places that it gets; and with it
// what was there before.
func (o *overtaken) wantNothingLost(t *testing.T, lost int, want ...string) {
	t.Helper()
	var out []backend.Append
	waitFor(t, "the other gateway to append", func() bool {
		out = make([]backend.Append, 1)
		return o.other.Append(t.Context(), []*backend.Message{message("a", "new")}, out) == nil
	})
	// The connection has acknowledged all that it had.
	err := o.s.Advance(t.Context(), o.at.Lease, backend.Progress{Base: o.at.Last + 2 + uint64(lost)})
	for errors.Is(err, backend.ErrUnavailable) {
		err = o.s.Advance(t.Context(), o.at.Lease, backend.Progress{Base: o.at.Last + 2 + uint64(lost)})
	}
	if !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Advance of what is not there any more: %v, want ErrFenced", err)
	}
	waitFor(t, "the gateway to be told", func() bool { return len(o.fenced) > 0 })
	if err := o.s.Renew(t.Context(), "node"); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Renew: %v, want ErrFenced", err)
	}
	if _, err := o.s.Release(t.Context(), o.at.Lease, backend.ReleaseRequest{Sent: 2 + uint64(lost)}); err != nil {
		t.Errorf("Release: %v", err)
	}
	if err := o.s.Leave(t.Context(), "node"); err != nil {
		t.Errorf("Leave: %v", err)
	}
	join(t, o.s, "node")
	again := openSession(t, o.s, "node", "c")
	// An append that failed with an unknown outcome may be there as well as the
	// one that did not.
	inbox := inboxOf(t, o.s, again.Lease)
	if got := slices.Compact(slices.Clone(inbox)); !slices.Equal(got, append(want, "new")) {
		t.Errorf("inbox %q, want %q and what is new", inbox, want)
	}
	appendTo(t, o.other, message("a", "last"))
	list, _, err := o.s.Fetch(t.Context(), again.Lease, 0, 100, 1<<20)
	if err != nil || len(list) != len(inbox)+1 {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	if seq := list[len(list)-1].Seq; seq <= 2+uint64(lost) {
		t.Errorf("sequence %d is given out again, up to %d was sent", seq, 2+lost)
	}
	if lines := o.log.about("level=WARN", "older than what was acknowledged"); len(lines) != 1 {
		t.Errorf("the log has %q, want one line about older data", o.log.lines())
	}
	if lines := o.log.about("other data than before"); len(lines) > 0 {
		t.Errorf("the log has %q", lines)
	}
	if n := o.s.lineage.broken.Load(); n != 1 {
		t.Errorf("counted %d times, want once", n)
	}
}

// TestReplicaPromoted: a replica that is behind takes the place of the primary
// (F14). What was not there yet is lost; what is appended from then on is not,
// not even to a session whose connection stays up.
func TestReplicaPromoted(t *testing.T) {
	t.Parallel()
	o := newOvertaken(t)
	host, port, _ := net.SplitHostPort(o.server.address)
	replica := startServer(t, "--replicaof", host+" "+port)
	waitFor(t, "the replica to follow", func() bool {
		return parseInfo(replica.direct(t).Info(t.Context(), "replication").Val())["master_link_status"] == "up"
	})
	waitFor(t, "the replica to have all", func() bool {
		r := parseInfo(replica.direct(t).Info(t.Context(), "replication").Val())
		p := parseInfo(o.server.direct(t).Info(t.Context(), "replication").Val())
		return r["slave_repl_offset"] == p["master_repl_offset"]
	})
	if err := replica.direct(t).ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	// From here on it does not follow.
	for _, text := range []string{"3", "4", "5"} {
		appendTo(t, o.other, message("a", text))
	}
	// A change of the index that is lost, and one with the same number after.
	gone := openSession(t, o.s, "node", "gone", subscription("b"))
	o.server.Kill(t)
	o.server.proxy.redirect(replica.address)
	var fresh *backend.Opened
	waitFor(t, "a session to be opened", func() bool {
		var err error
		fresh, err = o.other.Open(t.Context(), backend.OpenRequest{Client: "fresh", Node: "other", Expiry: 3600})
		if errors.Is(err, backend.ErrFenced) { // it was the first to find out
			_ = o.other.Leave(t.Context(), "other")
			join(t, o.other, "other")
		}
		return err == nil
	})
	if _, err := o.other.Subscribe(t.Context(), fresh.Lease, []backend.Subscription{subscription("b")}, nil); err != nil {
		t.Fatal(err)
	}
	o.wantNothingLost(t, 3, "1", "2")
	if out := appendTo(t, o.s, message("b", "x")); !out[0].Matched || out[0].Refused != 0 {
		t.Errorf("outcome %+v, want a match with what was subscribed after the promotion", out[0])
	}
	wantInbox(t, o.other, fresh.Lease, "x")
	_ = gone
}

// TestOlderDisk: a server restarts with a snapshot from before. Nothing of what
// it says of itself tells that, but what it has.
func TestOlderDisk(t *testing.T) {
	t.Parallel()
	o := newOvertaken(t, "--appendonly", "no", "--dbfilename", "dump.rdb")
	if err := o.server.direct(t).Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	appendTo(t, o.s, message("a", "3"))
	o.awaitBeat(t)
	o.server.Kill(t)
	o.server.Start(t)
	o.wantNothingLost(t, 1, "1", "2")
}

// awaitBeat waits until the server has been looked at once more by both
// gateways.
func (o *overtaken) awaitBeat(t *testing.T) {
	t.Helper()
	for _, s := range []*Store{o.s.Store, o.other.Store} {
		beat := func() uint64 { s.lineage.mu.Lock(); defer s.lineage.mu.Unlock(); return s.lineage.beat }
		before := beat()
		waitFor(t, "the server to be looked at", func() bool { return beat() > before })
	}
}

// TestSameDisk: a server that was killed and has all that it had answered
// changes nothing for the gateways, nor does one that was told to be a replica
// for a while and has followed nobody.
func TestSameDisk(t *testing.T) {
	t.Parallel()
	o := newOvertaken(t)
	for name, fault := range map[string]func(){
		"restart": func() { o.server.Kill(t); o.server.Start(t) },
		"replica": func() {
			o.server.direct(t).ReplicaOf(t.Context(), "127.0.0.1", "1")
			awaitHealth(t, o.s.Store, "replica")
			o.server.direct(t).ReplicaOf(t.Context(), "NO", "ONE")
		},
	} {
		fault()
		waitFor(t, "the server to answer after "+name, func() bool { return o.s.Renew(t.Context(), "node") == nil })
		o.awaitBeat(t)
		if err := o.s.Advance(t.Context(), o.at.Lease, backend.Progress{}); err != nil {
			t.Errorf("%s: Advance: %v", name, err)
		}
	}
	if lines := o.log.about("older than"); len(lines) > 0 || len(o.fenced) > 0 {
		t.Errorf("the log has %q; told %d times", lines, len(o.fenced))
	}
}

// TestLineage: what servers say of themselves, and whether the data may be older
// than before.
func TestLineage(t *testing.T) {
	t.Parallel()
	const none = "0000"
	for _, tt := range []struct {
		name   string
		seen   []ancestry
		broken uint64
	}{
		{"one server", []ancestry{{"r1", true, "h1", none}, {"r1", true, "h1", none}}, 0},
		{"a shard more", []ancestry{{"r1", true, "h1", none}, {"r2", true, "h2", none}}, 0},
		{"promoted", []ancestry{{"r1", true, "h1", none}, {"r2", true, "h2", "h1"}, {"r2", true, "h2", "h1"}}, 1},
		{"promoted while it is looked at", []ancestry{{"r1", true, "h1", none}, {"r2", false, "h1", none}, {"r2", true, "h2", "h1"}}, 1},
		{"renamed for want of replicas", []ancestry{{"r1", true, "h1", none}, {"r1", true, "h2", none}}, 0},
		{"replica of nobody for a while", []ancestry{{"r1", true, "h1", none}, {"r1", false, "h1", none}, {"r1", true, "h2", "h1"}}, 0},
		{"back after having followed", []ancestry{{"r1", true, "h1", none}, {"r2", true, "h2", "h1"}, {"r1", false, "h2", none}, {"r1", true, "h3", "h2"}}, 2},
		{"back, and nobody has seen it follow", []ancestry{{"r1", true, "h1", none}, {"r2", true, "h2", "h1"}, {"r1", true, "h3", "h2"}}, 2},
		{"from a snapshot that has its history", []ancestry{{"r1", true, "h1", none}, {"r2", true, "h2", "h1"}}, 1},
		{"one that does not tell", []ancestry{{}, {}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, optionsFor(t, startServer(t).url(), backendtest.StoreOptions{}))
			for _, a := range tt.seen {
				if err := s.meet(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			if n := s.lineage.broken.Load(); n != tt.broken {
				t.Errorf("broken %d times, want %d", n, tt.broken)
			}
		})
	}
}
