// Package house holds the rules of this source tree that the compiler does not
// know.
package house

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/sluice-mqtt/sluice"
	root   = "../.."
	// maxLines: a file is one thought. Above 500 lines it has become two.
	maxLines = 500
)

// arrows says which packages a package may import: of this module, by their
// path in it, and of others, by module path. The standard library is open to
// all. Nothing may point upwards, so that the protocol knows bytes and not
// gateways, the contracts of package backend no driver, and the gateway no
// implementation of what it stands on.
var arrows = map[string][]string{
	"protocol":              {},
	"backend":               {},
	"backend/topictree":     {},
	"backend/index":         {"backend", "backend/topictree"},
	"backend/memory":        {"backend", "backend/topictree", "backend/index"},
	"backend/nats/subject":  {},
	"backend/nats":          {"backend", "backend/nats/subject", "backend/topictree", "github.com/nats-io/nats.go"},
	"backend/redis":         {"backend", "backend/index", "backend/topictree", "github.com/redis/go-redis/v9"},
	"backend/backendtest":   {"backend"},
	"gateway/session":       {"backend", "protocol"},
	"gateway":               {"backend", "backend/topictree", "gateway/session", "protocol", "nhooyr.io/websocket", "github.com/pires/go-proxyproto", "golang.org/x/time"},
	"gateway/admin":         {"backend", "gateway", "protocol", "github.com/go-analyze/charts", "github.com/prometheus/client_golang"},
	"gateway/bridge":        {"backend", "backend/nats/subject", "gateway", "github.com/nats-io/nats.go", "protocol"},
	"gateway/events":        {"backend", "gateway"},
	"gateway/tracing":       {"backend", "gateway", "github.com/go-logr/logr", "go.opentelemetry.io/otel", "protocol"},
	"gateway/auth":          {"backend", "gateway", "gateway/auth/acl", "gateway/auth/callback", "github.com/xdg-go/scram", "gateway/auth/password", "gateway/auth/token", "protocol"},
	"gateway/auth/acl":      {"gateway", "protocol"},
	"gateway/auth/callback": {},
	"gateway/auth/token":    {"github.com/MicahParks/jwkset", "github.com/golang-jwt/jwt/v5"},
	"gateway/auth/password": {"github.com/go-crypt/x", "golang.org/x/crypto"},
	"cmd/gateway": {"backend", "backend/index", "backend/memory", "backend/nats", "backend/redis", "gateway", "gateway/admin",
		"gateway/auth", "gateway/auth/acl", "gateway/auth/callback", "gateway/bridge", "gateway/events", "github.com/nats-io/nats.go", "gateway/auth/password", "gateway/auth/token", "gateway/tracing", "golang.org/x/term", "protocol",
		"github.com/caarlos0/env/v11"},
	"docs/embed":     {"backend/memory", "gateway"},
	"docs/natsapp":   {"github.com/nats-io/nats.go"},
	"internal/house": {},
}

// onlyIn are imports that one file alone may have.
var onlyIn = map[string]string{"nhooyr.io/websocket": "gateway/websocket.go"}

func TestArrows(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	list.Dir = root
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		allowed, ok := arrows[name]
		if !ok {
			t.Errorf("%s has no line in the table: say there what it may import", name)
		}
		for _, i := range p.Imports {
			if first, _, _ := strings.Cut(i, "/"); !strings.Contains(first, ".") {
				continue // the standard library
			}
			i = strings.TrimPrefix(i, module+"/")
			if !slices.ContainsFunc(allowed, func(a string) bool {
				return i == a || strings.Contains(a, ".") && strings.HasPrefix(i, a+"/")
			}) {
				t.Errorf("%s imports %s, which points the wrong way", name, i)
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d packages were looked at", seen)
	}
}

// TestFiles parses every Go file, those of the end-to-end module included.
func TestFiles(t *testing.T) {
	files := token.NewFileSet()
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		seen++
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		checkFile(t, filepath.ToSlash(relative), source, f, files)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 50 {
		t.Errorf("only %d files were looked at", seen)
	}
}

func checkFile(t *testing.T, name string, source []byte, f *ast.File, files *token.FileSet) {
	t.Helper()
	if n := bytes.Count(source, []byte("\n")); n > maxLines {
		t.Errorf("%s has %d lines, more than %d: is it still one thought?", name, n, maxLines)
	}
	for _, i := range f.Imports {
		if only, ok := onlyIn[strings.Trim(i.Path.Value, `"`)]; ok && name != only {
			t.Errorf("%s imports %s, which belongs to %s", name, i.Path.Value, only)
		}
	}
	if strings.HasSuffix(name, "_test.go") {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if f.Name.Name != "main" && printsToStdout(n.Fun) {
				t.Errorf("%s: prints to standard output, which belongs to the program", files.Position(n.Pos()))
			}
		case *ast.Field:
			if n.Tag != nil && strings.Contains(n.Tag.Value, `env:"`) && name != "cmd/gateway/config.go" {
				t.Errorf("%s: an environment variable outside cmd/gateway/config.go", files.Position(n.Pos()))
			}
		}
		return true
	})
}

// printsToStdout recognizes fmt.Print and its kin, and the builtins.
func printsToStdout(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name == "print" || f.Name == "println"
	case *ast.SelectorExpr:
		x, ok := f.X.(*ast.Ident)
		return ok && x.Name == "fmt" && strings.HasPrefix(f.Sel.Name, "Print")
	}
	return false
}
