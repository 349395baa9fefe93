package admin

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-analyze/charts"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
)

// series is one line of a chart: a value for each moment, NaN for none.
type series struct {
	name   string
	values []float64
}

// chart is one of the charts of the page.
type chart struct {
	title string
	// lines reads them from two samples or more; the first sample is only
	// what rates begin from.
	lines func(samples []sample) []series
	// format of a value on the axis.
	format func(float64) string
	// step is what the values on the axis are round in: 10 or 1024.
	step float64
	// filled charts are sums, whose area means something.
	filled bool
}

// chartsByName are the charts of the page.
var chartsByName = map[string]chart{
	"messages": {title: "Messages per second", format: shortNumber, filled: true, lines: rates(
		named{"in", func(f *gateway.NodeFigures) float64 { return float64(f.Received) }},
		named{"out", func(f *gateway.NodeFigures) float64 { return float64(f.Sent) }},
	)},
	"bytes": {title: "Bytes per second", format: shortBytes, step: 1024, filled: true, lines: rates(
		named{"in", func(f *gateway.NodeFigures) float64 { return float64(f.BytesReceived) }},
		named{"out", func(f *gateway.NodeFigures) float64 { return float64(f.BytesSent) }},
	)},
	"connections": {title: "Connections per gateway", format: shortNumber, lines: perGateway},
	"waiting": {title: "Waiting for clients", format: shortNumber, filled: true, lines: gauges(
		named{"in flight", func(f *gateway.NodeFigures) float64 { return float64(f.InFlight) }},
		named{"queued", func(f *gateway.NodeFigures) float64 { return float64(f.Queued) }},
		named{"inboxes", func(f *gateway.NodeFigures) float64 { return float64(f.Backlog) }},
	)},
	"drops":   {title: "Drops per second", format: shortNumber, lines: dropRates},
	"latency": {title: "Publish to acknowledgement, mean", format: shortSeconds, filled: true, lines: ackLatency},
}

type named struct {
	name string
	read func(*gateway.NodeFigures) float64
}

func rates(of ...named) func([]sample) []series {
	return func(samples []sample) []series {
		all := make([]series, len(of))
		for i, n := range of {
			all[i].name = n.name
			for j := 1; j < len(samples); j++ {
				all[i].values = append(all[i].values, rate(&samples[j-1], &samples[j], n.read))
			}
		}
		return all
	}
}

func gauges(of ...named) func([]sample) []series {
	return func(samples []sample) []series {
		all := make([]series, len(of))
		for i, n := range of {
			all[i].name = n.name
			for j := 1; j < len(samples); j++ {
				all[i].values = append(all[i].values, samples[j].total(n.read))
			}
		}
		return all
	}
}

// shownLines is how many lines a chart has room for.
const shownLines = 8

// perGateway has a line a gateway, the busiest ones.
func perGateway(samples []sample) []series {
	most := map[backend.NodeID]int64{}
	for i := range samples {
		for _, n := range samples[i].nodes {
			if n.Figures != nil {
				most[n.ID] = max(most[n.ID], n.Figures.Connections)
			}
		}
	}
	ids := slices.SortedFunc(maps.Keys(most), func(a, b backend.NodeID) int {
		return cmp.Or(cmp.Compare(most[b], most[a]), cmp.Compare(a, b))
	})
	ids = ids[:min(len(ids), shownLines)]
	slices.Sort(ids)
	all := make([]series, len(ids))
	for i, id := range ids {
		all[i].name = clip(string(id), 12)
		for j := 1; j < len(samples); j++ {
			v := math.NaN()
			if f := samples[j].figuresOf(id); f != nil {
				v = float64(f.Connections)
			}
			all[i].values = append(all[i].values, v)
		}
	}
	return all
}

// dropRates has a line a reason that occurs.
func dropRates(samples []sample) []series {
	reasons := map[string]bool{}
	for i := range samples {
		for _, n := range samples[i].nodes {
			if n.Figures != nil {
				for why := range n.Figures.Dropped {
					reasons[why] = true
				}
			}
		}
	}
	var all []series
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		if len(all) == shownLines {
			break
		}
		line := rates(named{why, func(f *gateway.NodeFigures) float64 { return float64(f.Dropped[why]) }})(samples)
		all = append(all, line...)
	}
	if len(all) == 0 {
		all = []series{{name: "none", values: make([]float64, max(len(samples)-1, 0))}}
	}
	return all
}

func ackLatency(samples []sample) []series {
	s := series{name: "mean"}
	for j := 1; j < len(samples); j++ {
		s.values = append(s.values, meanAck(&samples[j-1], &samples[j]))
	}
	return []series{s}
}

// meanAck is what a publish waited for its acknowledgement between two
// samples, in seconds.
func meanAck(from, to *sample) float64 {
	n := rate(from, to, func(f *gateway.NodeFigures) float64 { return float64(f.Acked) })
	if n == 0 {
		return 0
	}
	return rate(from, to, func(f *gateway.NodeFigures) float64 { return f.AckSeconds }) / n
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// palette are the colours of lines: told apart by those who see less colour,
// and legible on both backgrounds.
var palette = map[bool][]string{
	false: {"#0b6e99", "#d1581d", "#3d7d3d", "#7a4fa3", "#a8327d", "#8a6d00", "#4a5b8c", "#666666"},
	true:  {"#5cc3ea", "#ff9d66", "#8fce8f", "#c3a1e6", "#f08bc6", "#e0c04a", "#9fb0e6", "#bbbbbb"},
}

// chartHeight in pixels.
const chartHeight = 210

// drawChart returns a chart as SVG.
func drawChart(name string, samples []sample, width int, dark bool) ([]byte, error) {
	c := chartsByName[name]
	lines := c.lines(samples)
	values, names := make([][]float64, len(lines)), make([]string, len(lines))
	for i, l := range lines {
		values[i], names[i] = l.values, l.name
		for j, v := range l.values {
			if math.IsNaN(v) {
				values[i][j] = charts.GetNullValue()
			}
		}
	}
	labels := make([]string, 0, len(samples))
	clock := "15:04"
	if samples[len(samples)-1].at.Sub(samples[1].at) < 5*time.Minute {
		clock = "15:04:05"
	}
	for _, s := range samples[1:] {
		labels = append(labels, s.at.Local().Format(clock))
	}
	const small = 8.6 // points
	top := 12
	if len(names) > 1 {
		top = 2
	}
	colors := make([]charts.Color, len(palette[dark]))
	for i, hex := range palette[dark] {
		colors[i] = charts.ParseColor(hex)
	}
	axis, text, grid := charts.ParseColor("#8a919b"), charts.ParseColor("#5b6470"), charts.ParseColor("#e3e6ea")
	if dark {
		axis, text, grid = charts.ParseColor("#6b7480"), charts.ParseColor("#a9b2be"), charts.ParseColor("#2c333c")
	}
	theme := charts.MakeTheme(charts.ThemeOption{
		IsDarkMode: dark, AxisStrokeColor: axis, AxisSplitLineColor: grid, BackgroundColor: charts.ColorTransparent,
		TextColor: text, SeriesColors: colors,
	})
	o := charts.NewLineChartOptionWithData(values)
	o.Theme = theme
	o.Padding = charts.NewBox(2, top, 14, 2)
	o.LineStrokeWidth = 1.6
	o.Symbol = charts.Symbol{Shape: charts.SymbolNone}
	o.FillArea = ptr(c.filled)
	o.FillOpacity = 36
	o.Legend = charts.LegendOption{SeriesNames: names, Symbol: charts.SymbolSquare, Show: ptr(len(names) > 1), FontStyle: charts.FontStyle{FontSize: small, FontColor: text}, Offset: charts.OffsetRight}
	o.XAxis = charts.XAxisOption{Labels: labels, LabelCount: max(width/110, 2), LabelFontStyle: charts.FontStyle{FontSize: small, FontColor: text}, BoundaryGap: ptr(false)}
	o.YAxis = []charts.YAxisOption{{Min: ptr(0.0), Max: ptr(roundAbove(lines, c.step)), LabelCount: axisLabels, LabelFontStyle: charts.FontStyle{FontSize: small, FontColor: text}, ValueFormatter: c.format}}
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: width, Height: chartHeight})
	if err := p.LineChart(o); err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	svg, err := p.Bytes()
	// The reader's own font instead of one that must be fetched.
	return bytes.ReplaceAll(svg, []byte(`'Roboto Medium',sans-serif`), []byte(`system-ui,sans-serif`)), err
}

// axisLabels are the values on the vertical axis: 0 and four quarters.
const axisLabels = 5

// roundAbove is a number above all values, of which a quarter is a round one.
func roundAbove(lines []series, step float64) float64 {
	most := 0.0
	for _, l := range lines {
		for _, v := range l.values {
			if v != charts.GetNullValue() {
				most = max(most, v)
			}
		}
	}
	if step == 1024 {
		top := 64.0
		for top < most {
			top *= 2
		}
		return top
	}
	if most <= 0 {
		return 4
	}
	for power := math.Pow(10, math.Floor(math.Log10(most))); ; power *= 10 {
		for _, n := range []float64{1, 2, 4, 8} {
			if n*power >= most {
				return n * power
			}
		}
	}
}

func shortNumber(v float64) string {
	switch {
	case v >= 1e6:
		return trimmed(v/1e6) + "M"
	case v >= 1e3:
		return trimmed(v/1e3) + "k"
	}
	return trimmed(v)
}

func shortBytes(v float64) string {
	switch {
	case v >= 1<<20:
		return trimmed(v/(1<<20)) + " MiB"
	case v >= 1<<10:
		return trimmed(v/(1<<10)) + " KiB"
	}
	return trimmed(v) + " B"
}

func shortSeconds(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 1:
		return trimmed(v) + " s"
	case v >= 1e-3:
		return trimmed(v*1e3) + " ms"
	}
	return trimmed(v*1e6) + " µs"
}

// trimmed has three digits that say something.
func trimmed(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'g', 4, 64) }

func ptr[T any](v T) *T { return &v }
