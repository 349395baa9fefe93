package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// row is a statement and the tests that name it.
type row struct {
	statement
	proof  []string // tests that passed
	failed []string // tests that did not
}

type table struct {
	rows    []*row
	unknown []string // statements named by tests and in no list
	failed  []string // tests that failed, named or not
}

func newTable(list []statement, results []result) *table {
	t := &table{}
	byKey := map[key]*row{}
	for _, s := range list {
		r := &row{statement: s}
		t.rows = append(t.rows, r)
		byKey[s.key] = r
	}
	for _, res := range results {
		if res.outcome != "pass" && res.outcome != "skip" {
			t.failed = append(t.failed, res.test)
		}
		if res.key == (key{}) {
			continue
		}
		switch r := byKey[res.key]; {
		case r == nil:
			t.unknown = append(t.unknown, fmt.Sprintf("%s %s, in %s", res.version, res.id, res.test))
		case res.outcome == "pass":
			r.proof = append(r.proof, res.test)
		case res.outcome != "skip":
			r.failed = append(r.failed, res.test)
		}
	}
	for _, r := range t.rows {
		r.proof, r.failed = unique(r.proof), unique(r.failed)
	}
	t.unknown, t.failed = unique(t.unknown), unique(t.failed)
	return t
}

func unique(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// state is the column that is counted.
func (r *row) state() string {
	switch {
	case len(r.failed) > 0:
		return "FAILS"
	case r.reason != "" && len(r.proof) > 0:
		return "BOTH" // a test and a reason not to have one
	case r.reason != "":
		return "not applicable"
	case len(r.proof) > 0:
		return "covered"
	}
	return "UNCOVERED"
}

// print writes the table and the counts, and says whether all is well.
func (t *table) print(w io.Writer, quiet bool) bool {
	width := len("statement")
	for _, r := range t.rows {
		width = max(width, len(r.words))
	}
	type version struct {
		name   string
		total  int
		counts map[string]int
	}
	var versions []*version
	bad := len(t.unknown) + len(t.failed)
	for _, r := range t.rows {
		if len(versions) == 0 || versions[len(versions)-1].name != r.version {
			versions = append(versions, &version{r.version, 0, map[string]int{}})
			if !quiet {
				fmt.Fprintf(w, "\nMQTT %s\n%-16s %-7s %-*s %s\n", r.version, "id", "binds", width, "statement", "tests")
			}
		}
		v, state := versions[len(versions)-1], r.state()
		v.total++
		v.counts[state]++
		well := state == "covered" || state == "not applicable"
		if !well {
			bad++
		}
		if quiet && well {
			continue
		}
		fmt.Fprintf(w, "%-16s %-7s %-*s %s\n", r.id, r.binds, width, r.words, r.tests(state))
	}
	for _, u := range t.unknown {
		fmt.Fprintf(w, "\nno such statement: %s", u)
	}
	for _, f := range t.failed {
		fmt.Fprintf(w, "\nfailed: %s", f)
	}
	fmt.Fprintf(w, "\n\n%-10s %8s %8s %15s %10s %6s\n", "version", "total", "covered", "not applicable", "UNCOVERED", "FAILS")
	for _, v := range versions {
		fmt.Fprintf(w, "MQTT %-5s %8d %8d %15d %10d %6d\n", v.name, v.total, v.counts["covered"], v.counts["not applicable"], v.counts["UNCOVERED"], v.counts["FAILS"]+v.counts["BOTH"])
	}
	return bad == 0
}

func (r *row) tests(state string) string {
	switch state {
	case "not applicable":
		return "- " + r.reason
	case "covered":
		return strings.Join(r.proof, " ")
	}
	return strings.TrimSpace(state + " " + strings.Join(slices.Concat(r.failed, r.proof), " "))
}
