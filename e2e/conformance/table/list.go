package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// key names a statement: both versions use the same identifiers.
type key struct{ version, id string }

// statement is one row of a list.
type statement struct {
	key
	binds  string // server, client or both
	words  string
	reason string // why there is no test, or empty
}

// The standard of 3.1.1 spells one identifier MQTT-3-8.3-4.
var identifier = regexp.MustCompile(`^MQTT-\d+[.-]\d+\.\d+-\d+$`)

// readList reads a list of statements: lines of identifier, whom it binds, a
// few words, and optionally why there is no test, between tabs. Lines that
// begin with # and the one that begins with id are for the reader.
func readList(version string, r io.Reader) ([]statement, error) {
	var list []statement
	seen := map[string]bool{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "id\t") {
			continue
		}
		f := append(strings.Split(line, "\t"), "")
		switch {
		case len(f) < 4:
			return nil, fmt.Errorf("line %d: want 3 or 4 columns", n)
		case !identifier.MatchString(f[0]):
			return nil, fmt.Errorf("line %d: %q is no identifier", n, f[0])
		case seen[f[0]]:
			return nil, fmt.Errorf("line %d: %s is there twice", n, f[0])
		case f[1] != "server" && f[1] != "client" && f[1] != "both":
			return nil, fmt.Errorf("line %d: %q binds nobody", n, f[1])
		case f[2] == "":
			return nil, fmt.Errorf("line %d: no words", n)
		}
		seen[f[0]] = true
		list = append(list, statement{key{version, f[0]}, f[1], f[2], f[3]})
	}
	return list, lines.Err()
}
