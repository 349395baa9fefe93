package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// result is one run of the generator, a line of the results.
type result struct {
	Peer     string  `json:"peer"`
	Scenario string  `json:"scenario"`
	Rep      int     `json:"rep"`
	Error    string  `json:"error,omitempty"`
	Load     *output `json:"load,omitempty"`
}

// usage is what one side has taken.
type usage struct {
	CPU      float64 `json:"cpu_s_per_m"`
	PerConn  float64 `json:"rss_b_per_conn"`
	PeakMiB  float64 `json:"rss_peak_mib"`
	CPUTotal float64 `json:"cpu_s"`
}

// output is what of the generator's is looked at.
type output struct {
	OK         bool    `json:"ok"`
	Error      string  `json:"error,omitempty"`
	Rate       float64 `json:"msgs_per_s"`
	Lost       int64   `json:"lost"`
	Duplicates int64   `json:"duplicates"`
	Reordered  int64   `json:"reordered"`
	Saturated  bool    `json:"gen_saturated"`
	ConnRate   float64 `json:"conns_per_s"`
	OtherCores float64 `json:"other_cores"`
	Broker     usage   `json:"broker"`
	Backend    usage   `json:"backend"`
	Latency    struct {
		P50  float64 `json:"p50_us"`
		P99  float64 `json:"p99_us"`
		P999 float64 `json:"p999_us"`
	} `json:"latency"`
	Connect struct {
		P99 float64 `json:"p99_us"`
	} `json:"connect_latency"`
	Extra map[string]any `json:"extra"`
}

func (o *output) extra(name string) float64 {
	v, _ := o.Extra[name].(float64)
	return v
}

// cpu is that of the broker and all that stands behind it.
func (o *output) cpu() float64 { return o.Broker.CPU + o.Backend.CPU }

func (r *result) String() string {
	if r.Load == nil {
		return fmt.Sprintf("%-10s %d %-14s %s", r.Scenario, r.Rep, r.Peer, r.Error)
	}
	return fmt.Sprintf("%-10s %d %-14s %10.0f/s %8.3f CPU-s/M lost %d %s", r.Scenario, r.Rep, r.Peer, r.Load.Rate, r.Load.cpu(), r.Load.Lost, r.Load.Error)
}

// one measures a scenario once against a fresh peer.
func (k *kit) one(ctx context.Context, s *settings, sc *scenario, p *peer, rep int) *result {
	res := &result{Peer: p.name, Scenario: sc.name, Rep: rep}
	rig, err := newRig(ctx)
	if err != nil {
		res.Error = err.Error()
		return res
	}
	defer rig.stop()
	if sc.tls {
		if err := rig.certify(); err != nil {
			res.Error = err.Error()
			return res
		}
	}
	tcp, ws, err := p.start(k, rig)
	if err == nil {
		err = k.ready(ctx, sc, tcp)
	}
	if err == nil {
		res.Load, err = k.generate(ctx, s, sc, rig, tcp, ws)
	}
	if err != nil {
		res.Error = err.Error()
	}
	return res
}

// ready waits until every process takes connections.
func (k *kit) ready(ctx context.Context, sc *scenario, tcp []string) error {
	var err error
	for end := time.Now().Add(25 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		err = command(ctx, k.dir, nil, k.binaries[sc.generator()], "connect", "--conns", fmt.Sprint(4*len(tcp)), "--concurrency", "1",
			"--hold", "0s", "--quiet", "--addr", strings.Join(tcp, ","), "--connect-timeout", "8s")
		if err == nil {
			return nil
		}
	}
	return errors.Join(errors.New("takes no connections"), err)
}

func (k *kit) generate(ctx context.Context, s *settings, sc *scenario, rig *rig, tcp []string, ws string) (*output, error) {
	args := append(sc.words(), "--quiet", "--pid", rig.pids(false))
	if pids := rig.pids(true); pids != "" {
		args = append(args, "--backend-pid", pids)
	}
	if sc.timed() {
		args = append(args, "--duration", s.duration.String(), "--warmup", s.warmup.String(), "--drain", "3s")
	}
	addr := strings.Join(tcp, ",")
	if strings.Contains(sc.args, "--ws") {
		addr = ws
	}
	args = append(args, "--addr", addr)
	if len(tcp) > 1 {
		args = append(args, crossing(sc, tcp)...)
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.binaries[sc.generator()], args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o := new(output)
	if json.Unmarshal(stdout.Bytes(), o) != nil {
		return nil, fmt.Errorf("no result: %v: %s", err, tail(stderr.Bytes()))
	}
	return o, nil
}

// crossing makes every message go from one process to another.
func crossing(sc *scenario, tcp []string) []string {
	switch sc.view {
	case stored:
		return []string{"--sub-addr", tcp[0], "--pub-addr", tcp[0], "--reconnect-addr", tcp[1]}
	default:
		return []string{"--shift", "1"}
	}
}

// results are all lines of a file.
type results struct {
	machine machine
	runs    []*result
}

func readRuns(path string) (*results, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := new(results)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for first := true; lines.Scan(); first = false {
		if first {
			if err := json.Unmarshal(lines.Bytes(), &all.machine); err != nil {
				return nil, err
			}
			continue
		}
		r := new(result)
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			return nil, err
		}
		all.runs = append(all.runs, r)
	}
	return all, lines.Err()
}
