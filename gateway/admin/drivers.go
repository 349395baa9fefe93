package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-mqtt/sluice/gateway"
)

// drivers shows the figures of store and bus, which only they know: those of a
// gateway whose Figures method returns them.
type drivers struct{ gateway Gateway }

// Describe sends nothing: which figures there are is found out by asking.
func (drivers) Describe(chan<- *prometheus.Desc) {}

// Collect sends the values of one moment.
func (d drivers) Collect(to chan<- prometheus.Metric) {
	g, ok := d.gateway.(gateway.Measured)
	if !ok {
		return
	}
	for _, f := range g.Figures() {
		desc := prometheus.NewDesc("sluice_"+f.Name, f.Help, f.Labels, nil)
		for _, v := range f.Values {
			to <- driverMetric(desc, f.Kind, v)
		}
	}
}

// driverMetric returns one value; an error of its making is shown by the
// handler of the page.
func driverMetric(desc *prometheus.Desc, kind gateway.FigureKind, v gateway.Value) prometheus.Metric {
	var m prometheus.Metric
	var err error
	switch {
	case v.Spread != nil:
		m, err = prometheus.NewConstHistogram(desc, v.Spread.Count, v.Spread.Sum, v.Spread.Below, v.Labels...)
	case kind == gateway.Gauge:
		m, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, v.Number, v.Labels...)
	default:
		m, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, v.Number, v.Labels...)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}
