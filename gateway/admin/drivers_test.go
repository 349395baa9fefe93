package admin

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sluice-mqtt/sluice/backend"
)

// measured is a gateway whose drivers count.
type measured struct {
	fixed
	figures []backend.Figure
}

func (m *measured) Figures() []backend.Figure { return m.figures }

func TestDriverFigures(t *testing.T) {
	h := backend.NewHistogram(0.5, 1)
	h.Observe(0.75)
	g := &measured{figures: []backend.Figure{
		{Name: "store_reloads_total", Help: "Reloads.", Kind: backend.Counter, Values: backend.Single(7)},
		{Name: "store_condition", Help: "What.", Kind: backend.Gauge, Labels: []string{"condition"}, Values: []backend.Value{
			{Labels: []string{"full"}, Number: 1}, {Labels: []string{"replica"}}}},
		{Name: "store_call_duration_seconds", Help: "Time.", Kind: backend.Distribution, Labels: []string{"operation"},
			Values: []backend.Value{{Labels: []string{"append"}, Spread: h.Spread()}}},
	}}
	status, body := get(t, g, "GET", "/metrics")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, want := range []string{
		"\n# TYPE sluice_store_reloads_total counter\nsluice_store_reloads_total 7\n",
		"\nsluice_store_condition{condition=\"full\"} 1\nsluice_store_condition{condition=\"replica\"} 0\n",
		"\nsluice_store_call_duration_seconds_bucket{operation=\"append\",le=\"0.5\"} 0\n",
		"\nsluice_store_call_duration_seconds_bucket{operation=\"append\",le=\"1\"} 1\n",
		"\nsluice_store_call_duration_seconds_sum{operation=\"append\"} 0.75\n",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "sluice_store") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestWrongDriverFigure: a driver's mistake is shown, and ends nothing.
func TestWrongDriverFigure(t *testing.T) {
	g := &measured{figures: []backend.Figure{{Name: "store_x", Help: "X.", Labels: []string{"a"}, Values: backend.Single(1)}}}
	if status, body := get(t, g, "GET", "/metrics"); status != 500 || !strings.Contains(body, "store_x") {
		t.Errorf("%d %s, want an error that names the figure", status, body)
	}
}
