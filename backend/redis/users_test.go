package redis

import (
	"fmt"
	"testing"
)

// TestUsers: users come and go, and every change is noticed; with the server
// away there is an error, and no answer.
func TestUsers(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	u, err := OpenUsers(Options{URL: srv.url()})
	other, err2 := OpenUsers(Options{URL: srv.url(), KeyPrefix: "other:"})
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	defer u.Close()
	defer other.Close()
	ctx := t.Context()
	before, err := u.Changes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	many := map[string]string{"a b*": "$x", "ü": "$y"}
	for i := range 3000 {
		many[fmt.Sprint("user", i)] = "$z"
	}
	if err := u.Set(ctx, many); err != nil {
		t.Fatal(err)
	}
	after, err := u.Changes(ctx)
	if err != nil || after == before {
		t.Errorf("changes %d, then %d, %v", before, after, err)
	}
	seen := map[string]string{}
	if err := u.Each(ctx, func(name, hash string) { seen[name] = hash }); err != nil || len(seen) != len(many) || seen["a b*"] != "$x" {
		t.Errorf("%d users, %v", len(seen), err)
	}
	if hash, ok, err := u.User(ctx, "ü"); hash != "$y" || !ok || err != nil {
		t.Errorf("%q, %v, %v", hash, ok, err)
	}
	if was, err := u.Delete(ctx, "ü"); !was || err != nil {
		t.Errorf("Delete: %v, %v", was, err)
	}
	if was, err := u.Delete(ctx, "ü"); was || err != nil {
		t.Errorf("Delete again: %v, %v", was, err)
	}
	if now, _ := u.Changes(ctx); now == after {
		t.Error("a deletion is not noticed")
	}
	for name, users := range map[string]*Users{"ü": u, "": u, "a b*": other} {
		if _, ok, err := users.User(ctx, name); ok || err != nil {
			t.Errorf("%q: %v, %v", name, ok, err)
		}
	}
	bad, err := OpenUsers(Options{URL: "redis://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if _, ok, err := bad.User(ctx, "a b*"); ok || err == nil {
		t.Error("no server, and an answer")
	}
	if _, err := OpenUsers(Options{URL: "http://secret@host"}); err == nil {
		t.Error("a URL that is none of Redis")
	}
}
