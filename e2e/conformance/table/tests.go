package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// result says that a test names a statement, and how the test ended.
type result struct {
	key
	test    string // package and name
	outcome string // pass, fail or skip; empty for a test that did not end
}

// testRun is one call of go test.
type testRun struct {
	dir      string
	packages []string
	only     string           // -run, empty for all
	marks    map[string][]key // what comments say, by package directory and test
}

// execute runs the tests. Their failing is not an error: it is a result.
func (r testRun) execute(race bool) ([]result, error) {
	args := []string{"test", "-json", "-count=1"}
	if race {
		args = append(args, "-race")
	}
	if r.only != "" {
		args = append(args, "-run", r.only)
	}
	cmd := exec.Command("go", append(args, r.packages...)...)
	cmd.Dir, cmd.Stderr = r.dir, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	results, readErr := readEvents(out, r.marks, os.Stderr)
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	if readErr == nil && failed != nil && !slices.ContainsFunc(results, func(r result) bool { return r.outcome == "fail" }) {
		// No test failed, but the package as a whole.
		results = append(results, result{test: strings.Join(r.packages, " "), outcome: "fail"})
	}
	return results, readErr
}

// event is a line of go test -json that matters here.
type event struct {
	Action, Package, Test, Output, Key, Value string
}

// readEvents collects what tests name and how they end. The output of those
// that fail is copied to w.
func readEvents(r io.Reader, marks map[string][]key, w io.Writer) ([]result, error) {
	named := map[string][]key{}
	outcome := map[string]string{}
	output := map[string][]string{}
	in := json.NewDecoder(bufio.NewReader(r))
	for {
		var e event
		if err := in.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go test -json: %w", err)
		}
		test := e.Package + " " + e.Test
		switch e.Action {
		case "run":
			for where, keys := range marks {
				if mod, name, _ := strings.Cut(where, " "); name == e.Test && strings.HasSuffix(e.Package, mod) {
					named[test] = append(named[test], keys...)
				}
			}
		case "attr":
			if e.Key != "covers" {
				continue
			}
			version, id, _ := strings.Cut(e.Value, " ")
			named[test] = append(named[test], key{version, id})
		case "output", "build-output":
			output[test] = append(output[test], e.Output)
		case "pass", "skip", "fail", "build-fail":
			outcome[test] = e.Action
			if strings.HasSuffix(e.Action, "fail") {
				io.WriteString(w, strings.Join(output[test], ""))
			}
			delete(output, test)
		}
	}
	var results []result
	for test, how := range outcome { // tests of no statement can fail, too
		if name := strings.TrimSuffix(test, " "); how == "fail" && name == test {
			named[test] = append(named[test], key{})
		}
	}
	for test, keys := range named {
		pkg, name, _ := strings.Cut(test, " ")
		for _, k := range keys {
			results = append(results, result{k, path.Base(pkg) + "." + name, outcome[test]})
		}
	}
	return results, nil
}

var mark = regexp.MustCompile(`^// ?covers: (\S+) (.+)$`)

// markedTests finds the tests of the gateway's module that have a covers
// comment, and makes the run that runs them alone.
func markedTests(root string) (testRun, error) {
	r := testRun{dir: root, marks: map[string][]key{}}
	var names []string
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != root && (d.Name() == "e2e" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, "_test.go"):
			return nil
		}
		found, err := marksIn(file, nil)
		if err != nil || len(found) == 0 {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := "/" + filepath.ToSlash(dir)
		if !slices.Contains(r.packages, "."+pkg) {
			r.packages = append(r.packages, "."+pkg)
		}
		for name, keys := range found {
			names = append(names, name)
			r.marks[pkg+" "+name] = keys
		}
		return nil
	})
	slices.Sort(names)
	r.only = "^(" + strings.Join(slices.Compact(names), "|") + ")$"
	return r, err
}

// marksIn returns the covers comments of a file by test function. src is for
// tests; nil reads the file.
func marksIn(file string, src any) (map[string][]key, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	found := map[string][]key{}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Doc == nil {
			continue
		}
		for _, c := range fn.Doc.List {
			m := mark.FindStringSubmatch(c.Text)
			if m == nil {
				continue
			}
			if fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") && !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				return nil, fmt.Errorf("%s: covers comment above %s, which is no test", file, fn.Name.Name)
			}
			for _, id := range strings.Fields(m[2]) {
				found[fn.Name.Name] = append(found[fn.Name.Name], key{m[1], id})
			}
		}
	}
	return found, nil
}
