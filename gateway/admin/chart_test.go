package admin

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
)

// samplesOf are looks at two gateways, two seconds apart; the second one does
// not answer in the middle.
func samplesOf(n int) []sample {
	begin := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	all := make([]sample, n)
	for i := range all {
		all[i].at = begin.Add(time.Duration(i) * 2 * time.Second)
		for _, id := range []backend.NodeID{"a", "b"} {
			s := gateway.NodeState{NodeStatus: backend.NodeStatus{ID: id}}
			if id == "a" || i != n/2 {
				s.Figures = &gateway.NodeFigures{
					Started: begin, Received: uint64(100 * i), Sent: uint64(300 * i), BytesReceived: uint64(4096 * i), Connections: int64(10 + i),
					InFlight: 3, Acked: uint64(10 * i), AckSeconds: 0.02 * float64(i), Dropped: map[string]uint64{"denied": uint64(2 * i)},
				}
			}
			all[i].nodes = append(all[i].nodes, s)
		}
	}
	return all
}

// TestChartLines: what the lines say: rates of both gateways together, a line for
// each gateway, and nothing where a gateway did not answer.
func TestChartLines(t *testing.T) {
	t.Parallel()
	samples := samplesOf(7)
	last := func(name string, line int) float64 {
		l := chartsByName[name].lines(samples)[line]
		if len(l.values) != len(samples)-1 {
			t.Errorf("%s has %d values for %d samples", name, len(l.values), len(samples))
		}
		return l.values[len(l.values)-1]
	}
	for _, c := range []struct {
		chart string
		line  int
		want  float64
	}{
		{"messages", 0, 100}, {"messages", 1, 300}, {"bytes", 0, 4096}, {"connections", 0, 16}, {"waiting", 0, 6}, {"drops", 0, 2}, {"latency", 0, 0.002},
	} {
		if got := last(c.chart, c.line); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s, line %d: %v, want %v", c.chart, c.line, got, c.want)
		}
	}
	b := chartsByName["connections"].lines(samples)[1]
	if b.name != "b" || !math.IsNaN(b.values[len(samples)/2-1]) {
		t.Errorf("%s while it does not answer: %v", b.name, b.values)
	}
	if l := dropRates(samplesOf(1)); len(l) != 1 || l[0].name != "denied" {
		t.Errorf("drops: %+v", l)
	}
}

// TestDrawChart: every chart is well-formed SVG, light and dark, narrow and wide,
// with two samples or many, and loads nothing.
func TestDrawChart(t *testing.T) {
	t.Parallel()
	for name := range chartsByName {
		for _, width := range []int{280, 1600} {
			for _, n := range []int{2, 900} {
				for _, dark := range []bool{false, true} {
					svg, err := drawChart(name, samplesOf(n), width, dark)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					d := xml.NewDecoder(bytes.NewReader(svg))
					for err == nil {
						_, err = d.Token()
					}
					if err != io.EOF {
						t.Errorf("%s: %v", name, err)
					}
					if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("href")) || !bytes.Contains(svg, []byte("system-ui")) {
						t.Errorf("%s of %d samples, %d wide: %.200s", name, n, width, svg)
					}
				}
			}
		}
	}
}

// TestAxis: the top of the axis is a round number that everything is below, and
// values are short.
func TestAxis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		most, step, want float64
	}{{0, 10, 4}, {3, 10, 4}, {9, 10, 10}, {11, 10, 20}, {0.003, 10, 0.004}, {70_000, 10, 80_000}, {0, 1024, 64}, {1500, 1024, 2048}} {
		if got := roundAbove([]series{{values: []float64{c.most}}}, c.step); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("above %v: %v, want %v", c.most, got, c.want)
		}
	}
	for want, got := range map[string]string{
		"0": shortNumber(0), "1.5k": shortNumber(1500), "2M": shortNumber(2e6), "12.5": shortNumber(12.5),
		"0 B": shortBytes(0), "1.5 KiB": shortBytes(1536), "3 MiB": shortBytes(3 << 20),
		"2 s": shortSeconds(2), "1.5 ms": shortSeconds(0.0015), "20 µs": shortSeconds(20e-6), "0 ": shortSeconds(0) + " ",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := clip("a-very-long-name-of-a-gateway", 16); len([]rune(got)) != 16 {
		t.Errorf("%q", got)
	}
}
