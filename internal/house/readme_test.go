package house

import (
	"os"
	"strings"
	"testing"
)

// TestExampleInReadme: the program that README.md shows is the one that is
// compiled.
func TestExampleInReadme(t *testing.T) {
	readme, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(root + "/docs/embed/main.go")
	if err != nil {
		t.Fatal(err)
	}
	// The comment above the package clause is for readers of the file alone.
	_, code, ok := strings.Cut(string(program), "package main\n")
	if !ok || !strings.Contains(string(readme), "```go\npackage main\n"+code+"```\n") {
		t.Error("README.md does not show docs/embed/main.go as it is")
	}
}
