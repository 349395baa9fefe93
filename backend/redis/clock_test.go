package redis

import (
	"testing"
	"time"
)

// TestClock: the store's clock is the server's after every renewal of a lease
// (F31).
func TestClock(t *testing.T) {
	s := newPair(t, nil).a
	// As if the machine's clock had been set back since.
	s.clock.began = s.clock.began.Add(-time.Hour)
	if err := s.Renew(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	want, err := s.client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Now().Sub(want).Abs(); d > 10*time.Second {
		t.Errorf("off by %v", d)
	}
}
