// Command bench compares the gateway with other brokers: it builds those that
// can be had, runs each scenario of the load generator against all of them in
// turn, several times over, and writes tables and charts.
//
// Every run begins with fresh processes. What is compared is the median over
// the repetitions; runs are interleaved (A B C, A B C, …), so that a change of
// the machine's mood meets all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	load      string
	root      string
	out       string
	only      string
	scenarios string
	reps      int
	duration  time.Duration
	warmup    time.Duration
	again     bool
	add       bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "connect" { // started by generate
		if err := connect(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var s settings
	flag.StringVar(&s.load, "mqttload", "../../shared/mqttload", "folder of the load generator's source")
	flag.StringVar(&s.root, "root", "..", "root of the repository")
	flag.StringVar(&s.out, "out", "../docs/benchmarks", "folder for tables and charts")
	flag.StringVar(&s.only, "peers", "", "only these, separated by commas; empty is all that can be had")
	flag.StringVar(&s.scenarios, "scenarios", "", "only these, separated by commas; empty is all")
	flag.IntVar(&s.reps, "reps", 5, "repetitions of each run")
	flag.DurationVar(&s.duration, "duration", 2500*time.Millisecond, "measured time of one run")
	flag.DurationVar(&s.warmup, "warmup", 600*time.Millisecond, "time before it")
	flag.BoolVar(&s.add, "add", false, "keep the results of what is not measured now, as of the same machine")
	flag.BoolVar(&s.again, "report", false, "measure nothing, write the report anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s *settings) error {
	results := filepath.Join(s.out, "results.jsonl")
	if !s.again {
		if err := measure(ctx, s, results); err != nil {
			return err
		}
	}
	runs, err := readRuns(results)
	if err != nil {
		return err
	}
	return writeReport(s.out, runs)
}

func measure(ctx context.Context, s *settings, results string) error {
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	kit, err := build(ctx, s)
	if err != nil {
		return err
	}
	defer os.RemoveAll(kit.dir)
	var kept []*result
	if s.add {
		old, err := readRuns(results)
		switch {
		case err == nil:
			kept = slices.DeleteFunc(old.runs, func(r *result) bool {
				return chosen(s.scenarios, r.Scenario) && chosen(s.only, r.Peer)
			})
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	file, err := os.OpenFile(results, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := appendLine(file, describe(ctx, kit)); err != nil {
		return err
	}
	for _, r := range kept {
		if err := appendLine(file, r); err != nil {
			return err
		}
	}
	for _, sc := range scenarios {
		if !chosen(s.scenarios, sc.name) {
			continue
		}
		for rep := range s.reps {
			for _, p := range kit.peers {
				if !sc.takes(p) || !chosen(s.only, p.name) {
					continue
				}
				r := kit.one(ctx, s, sc, p, rep)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err := appendLine(file, r); err != nil {
					return err
				}
				fmt.Println(r)
			}
		}
	}
	return nil
}

// chosen reports whether a comma separated list, empty for all, has name.
func chosen(list, name string) bool {
	return list == "" || strings.Contains(","+list+",", ","+name+",")
}
