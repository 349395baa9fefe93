package backendtest

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// clockSlack is how much earlier than by the suite's clock something may
// happen by the store's: rounding, and a connection's way there.
const clockSlack = 50 * time.Millisecond

var expiryCases = []storeCase{
	{name: "ends", promise: "a session ends its expiry interval after its connection, not before; its end is a chore, whoever polls", run: expiryEnds},
	{name: "nobody polls", promise: "a session that has expired is not resumed, though nobody asked for chores meanwhile", run: expiryWithoutPoll},
	{name: "attached", promise: "a session does not expire while its connection is up", run: expiryAttached},
	{name: "resumed in time", promise: "a resumption takes back the end that was near", run: expiryResumed},
	{name: "replaced by open", promise: "Open replaces the expiry interval of the session", run: expiryReplaced},
	{name: "never", promise: "sessions with the longest expiry intervals do not expire", run: expiryNever},
	{name: "after the gateway", promise: "the session of a gateway that died ends its expiry interval after the gateway's lease", run: expiryAfterGateway},
}

func expiryEnds(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", expires(1))
	rich(t, c.a, o.Lease)
	released := time.Now()
	if due := c.a.release(t, o.Lease, backend.ReleaseRequest{}); len(due) != 0 {
		t.Errorf("chores %+v of a session that has not ended", due)
	}
	c.b.collect(t, nil, "the end of the session", has(backend.ChoreEnded, "client"))
	if passed := time.Since(released); passed < time.Second-clockSlack {
		t.Errorf("a session with expiry 1 s ended after %v", passed)
	}
	again := c.b.open(t, "client")
	if again.Incarnation == o.Incarnation {
		t.Error("the incarnation is that of the session that ended")
	}
	wantNothing(t, c.b, again)
}

func expiryWithoutPoll(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", expires(1))
	rich(t, c.a, o.Lease)
	c.a.release(t, o.Lease, backend.ReleaseRequest{})
	lapse(time.Second + 200*time.Millisecond)
	again := c.b.open(t, "client", as("another")) // nobody's session is nobody's
	if again.Incarnation == o.Incarnation {
		t.Error("a session was resumed after its end")
	}
	wantNothing(t, c.b, again)
	// Its end is reported all the same, once.
	all := c.a.collect(t, again.Due, "the end of the session", has(backend.ChoreEnded, "client"))
	if n := len(of(all, backend.ChoreEnded, "client")); n != 1 {
		t.Errorf("the end came %d times", n)
	}
}

// afterExpiry waits until a session of one second, released by this call, has
// ended: by then all that was due before has come too.
func (c *cluster) afterExpiry(t *testing.T, had []backend.Chore) []backend.Chore {
	t.Helper()
	o := c.a.open(t, "hourglass", expires(1))
	c.a.release(t, o.Lease, backend.ReleaseRequest{})
	return c.a.collect(t, had, "the end of another session", has(backend.ChoreEnded, "hourglass"))
}

func expiryAttached(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", expires(1))
	if all := c.afterExpiry(t, nil); len(of(all, backend.ChoreEnded, "client")) != 0 {
		t.Error("a session ended while its connection was up")
	}
	lapse(200 * time.Millisecond)
	c.a.subscribe(t, o.Lease, sub("a", 1))
	if again := c.b.open(t, "client", expires(1)); !again.Present {
		t.Error("a session that was attached is gone")
	}
}

func expiryResumed(t *testing.T, c *cluster) {
	inTime(t, func(attempt string) bool {
		client := backend.ClientID("client" + attempt)
		o := c.a.open(t, client, expires(1))
		released := time.Now()
		c.a.release(t, o.Lease, backend.ReleaseRequest{})
		o = c.b.open(t, client, expires(1))
		if time.Since(released) >= time.Second-clockSlack {
			return false
		}
		if !o.Present {
			t.Error("a session is gone before its end")
		}
		all := c.afterExpiry(t, o.Due)
		if len(of(all, backend.ChoreEnded, client)) != 0 {
			t.Error("a session that was resumed ended")
		}
		c.b.subscribe(t, o.Lease, sub("a", 1))
		return true
	})
}

func expiryReplaced(t *testing.T, c *cluster) {
	inTime(t, func(attempt string) bool {
		names := make(map[string]backend.ClientID)
		for _, name := range []string{"longer", "shorter", "grown"} {
			names[name] = backend.ClientID(name + attempt)
		}
		longer, shorter := c.a.open(t, names["longer"], expires(1)), c.a.open(t, names["shorter"])
		long := uint32(3600)
		grown := c.a.open(t, names["grown"], expires(1))
		released := time.Now()
		c.a.release(t, longer.Lease, backend.ReleaseRequest{})
		longer = c.b.open(t, names["longer"])
		if time.Since(released) >= time.Second-clockSlack {
			return false
		}
		c.a.release(t, shorter.Lease, backend.ReleaseRequest{})
		c.a.release(t, grown.Lease, backend.ReleaseRequest{Expiry: &long}) // by Release
		shorter = c.b.open(t, names["shorter"], expires(1))
		c.b.release(t, longer.Lease, backend.ReleaseRequest{})
		c.b.release(t, shorter.Lease, backend.ReleaseRequest{})
		all := c.afterExpiry(t, nil)
		if len(of(all, backend.ChoreEnded, names["shorter"])) != 1 {
			t.Error("an interval that was made shorter did not end the session")
		}
		for _, name := range []string{"longer", "grown"} {
			if len(of(all, backend.ChoreEnded, names[name])) != 0 || !c.a.open(t, names[name]).Present {
				t.Errorf("%s: an interval that was made longer did not keep the session", name)
			}
		}
		return true
	})
}

func expiryNever(t *testing.T, c *cluster) {
	intervals := map[backend.ClientID]uint32{"never": backend.NeverExpires, "longest": backend.NeverExpires - 1, "half": 1 << 31, "signed": 1<<31 - 1}
	for id, seconds := range intervals {
		o := c.a.open(t, id, expires(seconds))
		c.a.release(t, o.Lease, backend.ReleaseRequest{})
	}
	all := c.afterExpiry(t, nil)
	for id, seconds := range intervals {
		if len(of(all, backend.ChoreEnded, id)) != 0 || !c.b.open(t, id, expires(seconds)).Present {
			t.Errorf("a session with an expiry interval of %d s is gone", seconds)
		}
	}
}

func expiryAfterGateway(t *testing.T, c *cluster) {
	g := c.mortal(t, "dying")
	opened := time.Now()
	g.open(t, "client", expires(1))
	c.a.collect(t, nil, "the end of the session", has(backend.ChoreEnded, "client"))
	if passed := time.Since(opened); passed < c.h.Lease+time.Second-clockSlack {
		t.Errorf("the session ended %v after its gateway joined; its lease is %v and the expiry 1 s", passed, c.h.Lease)
	}
	if c.a.open(t, "client").Present {
		t.Error("the session is still there")
	}
}
