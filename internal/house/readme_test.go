package house

import (
	"os"
	"strings"
	"testing"
)

// TestExamples: the programs that pages show are the ones that are compiled.
func TestExamples(t *testing.T) {
	for page, path := range map[string]string{"README.md": "docs/embed/main.go", "docs/nats.md": "docs/natsapp/main.go"} {
		text, err := os.ReadFile(root + "/" + page)
		if err != nil {
			t.Fatal(err)
		}
		program, err := os.ReadFile(root + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		// The comment above the package clause is for readers of the file alone.
		_, code, ok := strings.Cut(string(program), "package main\n")
		if !ok || !strings.Contains(string(text), "```go\npackage main\n"+code+"```\n") {
			t.Errorf("%s does not show %s as it is", page, path)
		}
	}
}
