// Table runs every test that says which statements of MQTT it proves, and
// prints the table of statements: which are proven by which tests, which bind
// no server, and which nobody proves yet.
//
//	cd e2e && go run ./conformance/table [-q] [-race]
//
// It fails if a statement has neither a passing test nor a reason why not, if
// a test fails, or if a test names a statement that is not in the lists.
//
// A test names statements in one of two ways: at run time with
// t.Attr("covers", "5.0 MQTT-3.3.1-1") (the function covers of the conformance
// tests), which counts for the subtest that calls it; or, for tests of the
// gateway's own module, with a comment line above the function:
//
//	//covers: 5.0 MQTT-3.3.1-1 MQTT-3.3.1-2
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	quiet := flag.Bool("q", false, "print only what is wrong, and the counts")
	race := flag.Bool("race", false, "run the tests with the race detector")
	flag.Parse()
	ok, err := run(*quiet, *race)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run works in the e2e module's directory, whose parent is the gateway's.
func run(quiet, race bool) (ok bool, err error) {
	e2e, err := os.Getwd()
	if err != nil {
		return false, err
	}
	var all []statement
	for _, l := range []struct{ version, file string }{{"3.1.1", "mqtt311.tsv"}, {"5.0", "mqtt5v5.tsv"}} {
		f, err := os.Open(filepath.Join(e2e, "conformance", l.file))
		if err != nil {
			return false, err
		}
		list, err := readList(l.version, f)
		f.Close()
		if err != nil {
			return false, fmt.Errorf("%s: %w", l.file, err)
		}
		all = append(all, list...)
	}
	runs := []testRun{{dir: e2e, packages: []string{"./conformance"}}}
	marked, err := markedTests(filepath.Dir(e2e))
	if err != nil {
		return false, err
	}
	if len(marked.packages) > 0 {
		runs = append(runs, marked)
	}
	var results []result
	for _, r := range runs {
		found, err := r.execute(race)
		if err != nil {
			return false, err
		}
		results = append(results, found...)
	}
	return newTable(all, results).print(os.Stdout, quiet), nil
}
