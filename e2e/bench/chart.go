package main

import (
	"math"
	"os"

	"github.com/go-analyze/charts"
)

// writeChart draws the first figure of a scenario, a bar for each peer.
func writeChart(path string, sc *scenario, names []string, runs map[string][]*result) error {
	first := columns[sc.view][0]
	values := make([]float64, len(names))
	for i, name := range names {
		if v := median(runs[name], first.of); !math.IsNaN(v) {
			values[i] = v
		}
	}
	// The library draws the first value at the bottom.
	labels := make([]string, len(names))
	bars := make([]float64, len(names))
	for i := range names {
		labels[len(names)-1-i], bars[len(names)-1-i] = names[i], values[i]
	}
	p, err := charts.HorizontalBarRender([][]float64{bars},
		charts.SVGOutputOptionFunc(),
		charts.TitleTextOptionFunc(sc.title, first.head+", less is better"),
		charts.YAxisLabelsOptionFunc(labels),
		charts.DimensionsOptionFunc(720, 90+34*len(names)),
		func(o *charts.ChartOption) {
			o.SeriesList[0].Label.Show = charts.Ptr(true)
			o.Legend.Show = charts.Ptr(false)
		},
	)
	if err != nil {
		return err
	}
	text, err := p.Bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
