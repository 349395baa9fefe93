package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// watchedPair is a primary with a replica, and three sentinels.
type watchedPair struct {
	primary, replica *server
	sentinels        []string
}

// startSentinels runs them until the test ends.
func startSentinels(t *testing.T) *watchedPair {
	t.Helper()
	w := &watchedPair{primary: startServer(t)}
	host, port, _ := net.SplitHostPort(w.primary.address)
	w.replica = startServer(t, "--replicaof", host+" "+port)
	waitFor(t, "the replica to follow", func() bool { return w.offset(t, w.replica, "master_link_status") == "up" })
	for range 3 {
		address := freeAddress(t)
		_, own, _ := net.SplitHostPort(address)
		file := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nlogfile %q\nsentinel monitor main %s %s 2\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
			own, filepath.Dir(file), file+".log", host, port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := exec.Command(serverPath(t), file, "--sentinel")
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = p.Process.Kill()
			_ = p.Wait()
		})
		w.sentinels = append(w.sentinels, address)
	}
	for _, address := range w.sentinels {
		c := goredis.NewSentinelClient(&goredis.Options{Addr: address})
		waitFor(t, "a sentinel to know the others", func() bool {
			m, err := c.Master(context.Background(), "main").Result()
			return err == nil && m["num-other-sentinels"] == "2" && m["num-slaves"] == "1"
		})
		_ = c.Close()
	}
	return w
}

func (w *watchedPair) offset(t *testing.T, s *server, field string) string {
	return parseInfo(s.direct(t).Info(t.Context(), "replication").Val())[field]
}

func (w *watchedPair) url() string {
	return "redis+sentinel://" + strings.Join(w.sentinels, ",") + "/main/0"
}

// failOver ends the primary and waits until the replica is one.
func (w *watchedPair) failOver(t *testing.T) {
	t.Helper()
	w.primary.Kill(t)
	if w.replica.process != nil {
		w.replica.Resume(t)
	}
	waitFor(t, "the replica to be promoted", func() bool { return w.offset(t, w.replica, "role") == "master" })
}

// publisher appends numbered messages, one at a time, and remembers what was
// acknowledged.
type publisher struct {
	store peered
	next  int
	acked []string
}

// publish reports whether one more was acknowledged.
func (p *publisher) publish(t *testing.T) bool {
	text := fmt.Sprint(p.next)
	p.next++
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := p.store.Append(ctx, []*backend.Message{message("a", text)}, make([]backend.Append, 1))
	if err != nil && !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("Append: %v, want ErrUnavailable", err)
	}
	if err == nil {
		p.acked = append(p.acked, text)
	}
	return err == nil
}

func (p *publisher) until(t *testing.T, acked int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d messages to be acknowledged", acked), func() bool { p.publish(t); return len(p.acked) >= acked })
}

// wantAll: every message that was acknowledged is in the inbox, in order, and
// none twice.
func (p *publisher) wantAll(t *testing.T, l backend.Lease) {
	t.Helper()
	got := inboxOf(t, p.store, l)
	i := 0
	seen := make(map[string]bool)
	for _, text := range got {
		if seen[text] {
			t.Errorf("message %s is there twice", text)
		}
		seen[text] = true
		if i < len(p.acked) && text == p.acked[i] {
			i++
		}
	}
	if i < len(p.acked) {
		t.Errorf("message %s was acknowledged and is not there, or not in order; acknowledged are %d, there %d", p.acked[i], len(p.acked), len(got))
	}
}

// TestFailover: the primary of a Sentinel group is killed under load. With
// WaitReplicas nothing that was acknowledged is lost, and the store goes on by
// itself as soon as there is a primary with a replica.
func TestFailover(t *testing.T) {
	t.Parallel()
	w := startSentinels(t)
	o := optionsFor(t, w.url(), backendtest.StoreOptions{})
	o.WaitReplicas = 1
	st, log := watched(t, o)
	s := peered{st, o}
	join(t, s, "node")
	openSession(t, s, "node", "c", subscription("a"))
	p := &publisher{store: s}
	p.until(t, 50)
	w.failOver(t)
	if p.publish(t) {
		t.Error("a message was acknowledged that no replica can have")
	}
	w.primary.Start(t) // as what it was; the sentinels make it a replica
	acked := len(p.acked)
	p.until(t, acked+50)
	awaitHealth(t, s.Store, "")
	// Nothing appended is lost, but what was acknowledged to Redis only.
	if err := s.Renew(t.Context(), "node"); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Renew after a failover: %v, want ErrFenced", err)
	}
	if lines := log.about("level=WARN", "older than what was acknowledged"); len(lines) != 1 {
		t.Errorf("the log has %q, want one line about the failover", log.lines())
	}
	join(t, s, "node")
	at := openSession(t, s, "node", "c")
	p.wantAll(t, at.Lease)
	if lines := log.about("other data than before"); len(lines) > 0 {
		t.Errorf("the log has %q", lines)
	}
}

// TestFrozenReplica: while the replica answers nothing, nothing is
// acknowledged; it is promoted, and has all that was (F15).
func TestFrozenReplica(t *testing.T) {
	t.Parallel()
	w := startSentinels(t)
	o := optionsFor(t, w.url(), backendtest.StoreOptions{})
	o.WaitReplicas = 1
	s := open(t, o)
	join(t, s, "node")
	openSession(t, s, "node", "c", subscription("a"))
	p := &publisher{store: s}
	p.until(t, 50)
	w.replica.signal(t, syscall.SIGSTOP)
	for range 3 {
		if p.publish(t) {
			t.Error("a message was acknowledged while the replica was frozen")
		}
	}
	w.failOver(t)
	w.primary.Start(t)
	p.until(t, len(p.acked)+50)
	join(t, s, "node")
	p.wantAll(t, openSession(t, s, "node", "c").Lease)
}
