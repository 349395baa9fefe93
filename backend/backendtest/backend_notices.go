package backendtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var noticeCases = []backendCase{
	{name: "notices only to their node", promise: "Notify gives a notice to one gateway, the one it names", run: onlyToNode},
	{name: "notice to oneself", promise: "Notify gives a notice to the gateway that it names, the caller's included", run: noticeToOneself},
	{name: "notice order", promise: "notices of one caller to one gateway arrive in order", run: noticeOrder},
	{name: "notice content", promise: "a notice arrives with every field unchanged", run: noticeContent},
	{name: "notice borrowed", promise: "Notify borrows the message: the caller may change its bytes afterwards", run: noticeBorrowed},
	{name: "notice to nobody", promise: "a notice to a gateway that is gone, or never was, is no error", run: noticeToNobody},
}

// waitNotices waits until gateway i heard n notices and returns all of them.
func (r *room) waitNotices(t *testing.T, i, n int) []backend.Notice {
	t.Helper()
	e := r.ears[i]
	var list []backend.Notice
	e.wait(t, r.h.Patience, fmt.Sprintf("%d notices at %s", n, node(i)), func() bool {
		list = slices.Clone(e.notices)
		return len(list) >= n
	})
	return list
}

func onlyToNode(t *testing.T, r *room) {
	const each = 50
	for i := range busGateways {
		r.subscribe(t, i, "#", everyClass)
	}
	for n := range each {
		for from := range busGateways {
			for to := range busGateways {
				r.notify(t, from, node(to), backend.Notice{Kind: backend.NoticeTakeover, Client: backend.ClientID(node(to)), Epoch: uint64(n)})
			}
		}
	}
	for i := range busGateways {
		r.waitNotices(t, i, each*busGateways)
	}
	for i := range busGateways {
		r.settle(t, (i+1)%busGateways, i, fmt.Sprintf("notices-%d", i))
		list := r.waitNotices(t, i, each*busGateways)
		if len(list) != each*busGateways {
			t.Errorf("%s heard %d notices, want %d", node(i), len(list), each*busGateways)
		}
		for _, n := range list {
			if n.Client != backend.ClientID(node(i)) {
				t.Fatalf("%s heard a notice for %s", node(i), n.Client)
			}
		}
	}
}

func noticeToOneself(t *testing.T, r *room) {
	r.notify(t, 0, node(0), backend.Notice{Kind: backend.NoticeKick, Client: "self"})
	if n := r.waitNotices(t, 0, 1)[0]; n.Client != "self" {
		t.Errorf("heard %+v", n)
	}
}

func noticeOrder(t *testing.T, r *room) {
	const notices = 1000
	var group sync.WaitGroup
	for from := range busGateways {
		group.Go(func() {
			for n := range notices {
				err := r.buses[from].Notify(r.ctx, node(1), backend.Notice{Kind: backend.NoticeTakeover, Client: backend.ClientID(node(from)), Epoch: uint64(n)})
				if err != nil {
					t.Errorf("Notify: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	next := make(map[backend.ClientID]uint64)
	for _, n := range r.waitNotices(t, 1, notices*busGateways) {
		if n.Epoch != next[n.Client] {
			t.Fatalf("notice %d of %s came where %d was due", n.Epoch, n.Client, next[n.Client])
		}
		next[n.Client]++
	}
}

// sameEntry reports how got differs from want, or returns "".
func sameEntry(got, want backend.Entry) string {
	if want.Message == nil {
		if got.Message != nil {
			return "a message, want none"
		}
	} else if diff := sameMessage(got.Message, want.Message); diff != "" {
		return diff
	}
	switch {
	case got.Seq != want.Seq:
		return fmt.Sprintf("sequence %d, want %d", got.Seq, want.Seq)
	case got.QoS != want.QoS:
		return fmt.Sprintf("entry QoS %d, want %d", got.QoS, want.QoS)
	case got.Retain != want.Retain:
		return fmt.Sprintf("entry retain %v, want %v", got.Retain, want.Retain)
	case got.State != want.State:
		return fmt.Sprintf("state %d, want %d", got.State, want.State)
	case !slices.Equal(got.SubscriptionIDs, want.SubscriptionIDs):
		return fmt.Sprintf("subscription identifiers %v, want %v", got.SubscriptionIDs, want.SubscriptionIDs)
	case got.Share != want.Share:
		return fmt.Sprintf("share %.80q, want %.80q", got.Share, want.Share)
	}
	return ""
}

func noticeContent(t *testing.T, r *room) {
	notices := []backend.Notice{
		{Kind: backend.NoticeMail, Client: "a", Epoch: 7, Entry: backend.Entry{
			Seq: 1<<63 + 5, Message: sample("notice/ é"), QoS: 1, Retain: true, State: backend.Released, SubscriptionIDs: []uint32{1, 268435455, 1}, Share: "$share/g/ /#",
		}},
		{Kind: backend.NoticeDeliver, Client: "b", Epoch: 1<<64 - 1, Entry: backend.Entry{Message: &backend.Message{Topic: "t"}}},
		{Kind: backend.NoticeTakeover, Client: "c", Epoch: 9},
		{Kind: backend.NoticeKick, Client: "d", Code: 0x98},
		{Kind: backend.NoticeMail, Client: "e", Entry: backend.Entry{Message: &backend.Message{Topic: "big", Payload: make([]byte, 50_000)}}},
	}
	for _, id := range append(awkward, awkwardIDs...) {
		notices = append(notices, backend.Notice{Kind: backend.NoticeTakeover, Client: backend.ClientID(id), Epoch: 1})
	}
	for _, n := range notices {
		r.notify(t, 0, node(1), n)
	}
	for i, got := range r.waitNotices(t, 1, len(notices)) {
		want := notices[i]
		if got.Kind != want.Kind || got.Client != want.Client || got.Epoch != want.Epoch || got.Code != want.Code {
			t.Errorf("notice %d: %d %.80q %d %d, want %d %.80q %d %d", i, got.Kind, got.Client, got.Epoch, got.Code, want.Kind, want.Client, want.Epoch, want.Code)
		}
		if diff := sameEntry(got.Entry, want.Entry); diff != "" {
			t.Errorf("notice %d: %s", i, diff)
		}
	}
}

func noticeBorrowed(t *testing.T, r *room) {
	const notices = 200
	m, ids := sample("borrowed"), []uint32{0}
	for n := range notices {
		m.Payload = append(m.Payload[:0], fmt.Sprint(n)...)
		ids[0] = uint32(n)
		r.notify(t, 0, node(1), backend.Notice{Kind: backend.NoticeDeliver, Client: "c", Entry: backend.Entry{Message: m, SubscriptionIDs: ids}})
		copy(m.Payload, "????")
	}
	for n, got := range r.waitNotices(t, 1, notices) {
		if string(got.Entry.Message.Payload) != fmt.Sprint(n) || got.Entry.SubscriptionIDs[0] != uint32(n) {
			t.Fatalf("notice %d has payload %q and identifiers %v", n, got.Entry.Message.Payload, got.Entry.SubscriptionIDs)
		}
	}
}

func noticeToNobody(t *testing.T, r *room) {
	if err := r.buses[2].Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	r.notify(t, 0, node(2), backend.Notice{Kind: backend.NoticeKick, Client: "c"})
	r.notify(t, 0, "never was", backend.Notice{Kind: backend.NoticeKick, Client: "c"})
	r.notify(t, 0, node(1), backend.Notice{Kind: backend.NoticeKick, Client: "d"})
	if n := r.waitNotices(t, 1, 1)[0]; n.Client != "d" {
		t.Errorf("heard %+v", n)
	}
}
