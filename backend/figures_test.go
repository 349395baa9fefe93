package backend_test

import (
	"maps"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

func TestHistogram(t *testing.T) {
	h := backend.NewHistogram(1, 2, 4)
	for _, v := range []float64{0, 1, 1.5, 2, 3, 5, 100} {
		h.Observe(v)
	}
	h.Took(1500 * time.Millisecond)
	s := h.Spread()
	if want := map[float64]uint64{1: 2, 2: 5, 4: 6}; s.Count != 8 || s.Sum != 114 || !maps.Equal(s.Below, want) {
		t.Errorf("%+v, want 8 observations, sum 114, %v", s, want)
	}
}
