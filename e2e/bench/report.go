package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// column is one figure of a table.
type column struct {
	head string
	of   func(*output) float64
	form string
}

// columns of each view, the first of which is the ratio's and the chart's.
var columns = map[view][]column{
	rates: {
		{"CPU-s/M", (*output).cpu, "%.2f"},
		{"broker", func(o *output) float64 { return o.Broker.CPU }, "%.2f"},
		{"behind it", func(o *output) float64 { return o.Backend.CPU }, "%.2f"},
		{"messages/s", func(o *output) float64 { return o.Rate }, "%.0f"},
		{"p99 µs", func(o *output) float64 { return o.Latency.P99 }, "%.0f"},
		{"peak MiB", func(o *output) float64 { return o.Broker.PeakMiB }, "%.0f"},
	},
	latencies: {
		{"p99 µs", func(o *output) float64 { return o.Latency.P99 }, "%.0f"},
		{"p50 µs", func(o *output) float64 { return o.Latency.P50 }, "%.0f"},
		{"p99.9 µs", func(o *output) float64 { return o.Latency.P999 }, "%.0f"},
		{"CPU-s/M", (*output).cpu, "%.1f"},
	},
	connections: {
		{"bytes each", func(o *output) float64 { return o.Broker.PerConn }, "%.0f"},
		{"connects/s", func(o *output) float64 { return o.ConnRate }, "%.0f"},
		{"CPU-s per 10,000", func(o *output) float64 { return o.cpu() / 100 }, "%.2f"},
		{"connect p99 ms", func(o *output) float64 { return o.Connect.P99 / 1000 }, "%.1f"},
	},
	stored: {
		{"store CPU-s/M", func(o *output) float64 {
			return o.extra("store_cpu_s_per_m_broker") + o.extra("store_cpu_s_per_m_backend")
		}, "%.1f"},
		{"store messages/s", func(o *output) float64 { return o.extra("store_msgs_per_s") }, "%.0f"},
		{"drain CPU-s/M", (*output).cpu, "%.1f"},
		{"drain messages/s", func(o *output) float64 { return o.Rate }, "%.0f"},
		{"peak MiB", func(o *output) float64 { return o.Broker.PeakMiB }, "%.0f"},
	},
	retained: {
		{"seconds to receive", func(o *output) float64 { return o.extra("receive_s") }, "%.2f"},
		{"store messages/s", func(o *output) float64 { return o.extra("store_msgs_per_s") }, "%.0f"},
		{"store CPU-s/M", func(o *output) float64 {
			return o.extra("store_cpu_s_per_m_broker") + o.extra("store_cpu_s_per_m_backend")
		}, "%.1f"},
		{"peak MiB", func(o *output) float64 { return o.Broker.PeakMiB }, "%.0f"},
	},
}

// median of what the runs say; NaN without any.
func median(runs []*result, of func(*output) float64) float64 {
	var v []float64
	for _, r := range runs {
		if r.Load != nil {
			v = append(v, of(r.Load))
		}
	}
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	if n := len(v) / 2; len(v)%2 == 0 {
		return (v[n-1] + v[n]) / 2
	} else {
		return v[n]
	}
}

// wrong says what went wrong in runs.
func wrong(runs []*result) string {
	var failed int
	var lost, twice, disorder int64
	texts := make(map[string]struct{})
	for _, r := range runs {
		if r.Load == nil {
			failed++
			texts[short(r.Error)] = struct{}{}
			continue
		}
		if r.Load.Error != "" {
			texts[short(r.Load.Error)] = struct{}{}
		}
		lost, twice, disorder = max(lost, r.Load.Lost), max(twice, r.Load.Duplicates), max(disorder, r.Load.Reordered)
	}
	var all []string
	if failed > 0 {
		all = append(all, fmt.Sprintf("%d of %d failed", failed, len(runs)))
	}
	for _, w := range []struct {
		what string
		n    int64
	}{{"lost", lost}, {"twice", twice}, {"out of order", disorder}} {
		if w.n > 0 {
			all = append(all, fmt.Sprintf("%s: up to %s", w.what, thousands(fmt.Sprint(w.n))))
		}
	}
	return strings.Join(append(all, slices.Sorted(maps.Keys(texts))...), "; ")
}

func short(text string) string {
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "|", "/")), " ")
	return text[:min(len(text), 80)]
}

// figure writes a number as a table shows it.
func figure(v float64, form string) string {
	if math.IsNaN(v) {
		return "–"
	}
	return thousands(fmt.Sprintf(form, v))
}

func thousands(text string) string {
	whole, rest, dot := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if dot {
		whole += "." + rest
	}
	return whole
}

// byPeer are the runs of one scenario and group, in the order of the peers.
func (all *results) byPeer(sc *scenario, g group) (names []string, runs map[string][]*result) {
	runs = make(map[string][]*result)
	for _, p := range everyone() {
		if p.group != g {
			continue
		}
		for _, r := range all.runs {
			if r.Peer == p.name && r.Scenario == sc.name {
				runs[p.name] = append(runs[p.name], r)
			}
		}
		if len(runs[p.name]) > 0 {
			names = append(names, p.name)
		}
	}
	return names, runs
}

func writeReport(dir string, all *results) error {
	var b strings.Builder
	m := &all.machine
	fmt.Fprintf(&b, `# Benchmarks

Written by `+"`make bench`"+` on %s; results.jsonl has every single run. Medians; each
run with fresh processes, in turn (A B C, A B C, …), load generator and brokers on
the same %d cores (%s; %s; %s). So compare CPU seconds per million messages first,
and rates only within one table. CPU counts the broker and, where they take part,
Redis and NATS. The ratio is the first figure's, to this gateway's: above 1 the
gateway needs less.

`, m.Date, m.Cores, m.CPU, m.Kernel, m.Go)
	b.WriteString("| Peer | Version | What |\n| --- | --- | --- |\n")
	for _, p := range everyone() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.name, version(m, p.name), p.what)
	}
	for _, text := range m.Missing {
		fmt.Fprintf(&b, "\nNot measured: %s.\n", short(text))
	}
	for _, sc := range scenarios {
		for _, g := range sc.groups {
			names, runs := all.byPeer(sc, g)
			if len(names) == 0 {
				continue
			}
			chart := fmt.Sprintf("%s-%s.svg", sc.name, strings.Fields(string(g))[0])
			fmt.Fprintf(&b, "\n## %s (%s)\n\n%s\n\n![%s](%s)\n\n", sc.title, g, done(sc), columns[sc.view][0].head, chart)
			table(&b, sc, names, runs)
			if err := writeChart(filepath.Join(dir, chart), sc, names, runs); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, "README.md"), []byte(b.String()), 0o644)
}

// done says with which command a scenario was measured.
func done(sc *scenario) string {
	text := fmt.Sprintf("`%s %s`", sc.generator(), sc.args)
	if sc.tls {
		text += ", a command of this bench's own in a process of its own, as\n" +
			"mqttload has no TLS. Every handshake is a full one of TLS 1.3, with a certificate made\n" +
			"for the run (ECDSA P-256) and the key exchange that the peer prefers; every connection\n" +
			"answers a ping after the memory was read."
	}
	return text
}

func version(m *machine, name string) string {
	for key, v := range m.Versions {
		if strings.HasPrefix(name, key) {
			return v
		}
	}
	switch {
	case strings.HasPrefix(name, "aedes"):
		return "aedes/package-lock.json, Node " + m.Versions["node"]
	}
	return "–"
}

func table(b *strings.Builder, sc *scenario, names []string, runs map[string][]*result) {
	cols := columns[sc.view]
	b.WriteString("| Peer | ")
	for _, c := range cols {
		b.WriteString(c.head + " | ")
	}
	b.WriteString("ratio | runs | went wrong |\n|" + strings.Repeat(" --- |", len(cols)+4) + "\n")
	own := median(runs[names[0]], cols[0].of)
	for _, name := range names {
		fmt.Fprintf(b, "| %s | ", name)
		for _, c := range cols {
			b.WriteString(figure(median(runs[name], c.of), c.form) + " | ")
		}
		fmt.Fprintf(b, "%s | %d | %s |\n", figure(median(runs[name], cols[0].of)/own, "%.2f"), len(runs[name]), wrong(runs[name]))
	}
}
