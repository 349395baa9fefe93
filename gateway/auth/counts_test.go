package auth

import (
	"context"
	"errors"
	"testing"

	"github.com/sluice-mqtt/sluice/gateway"
)

// TestChainCounts: each answer is counted once, under the source that gave it.
func TestChainCounts(t *testing.T) {
	t.Parallel()
	says := func(user string, err error) gateway.Authenticator {
		return gateway.AuthenticatorFunc(func(_ context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
			if r.Client.Username != user {
				return gateway.Identity{}, ErrIgnore
			}
			return gateway.Identity{Principal: user}, err
		})
	}
	c := &Chain{Anonymous: true, Links: []Link{
		{"file", says("good", nil)}, {"jwt", says("bad", gateway.ErrBadCredentials)}, {"http", says("broken", errors.New("test"))},
	}}
	for user, n := range map[string]int{"good": 3, "bad": 2, "broken": 1, "nobody": 4, "": 5} {
		for range n {
			_, _ = c.Authenticate(context.Background(), &gateway.ConnectRequest{Client: gateway.Client{Username: user}, HasUsername: user != ""})
		}
	}
	want := map[[2]string]float64{{"file", "accepted"}: 3, {"jwt", "refused"}: 2, {"http", "failed"}: 1, {"none", "refused"}: 4, {"anonymous", "accepted"}: 5}
	for _, v := range c.Figures()[0].Values {
		key := [2]string{v.Labels[0], v.Labels[1]}
		if v.Number != want[key] {
			t.Errorf("%v: %v, want %v", key, v.Number, want[key])
		}
		delete(want, key)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}
