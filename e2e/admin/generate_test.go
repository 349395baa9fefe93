package admin_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	// What the generated client stands on.
	_ "github.com/oapi-codegen/runtime"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestGenerated makes a client library of the description that a gateway
// serves, and has a program use it.
func TestGenerated(t *testing.T) {
	g := harness.Start(t, "HTTP_TOKEN="+token)
	wire.Dial(t, g.TCP).Connect(wire.Connect{ClientID: "generated/ü", Clean: true})
	answer, err := http.Get(g.HTTP + "/api/v1/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	// A directory of this module, so that it builds with its versions.
	dir, err := os.MkdirTemp("testdata", "generated-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile("testdata/program.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"openapi.yaml": text, "main.go": program} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("go", "tool", "oapi-codegen", "-generate", "types,client", "-package", "main",
		"-o", filepath.Join(dir, "client.go"), filepath.Join(dir, "openapi.yaml"))
	out := run("go", "run", "./"+dir, g.HTTP+"/api/v1", token)
	if !strings.Contains(out, "client generated/ü of version 3.1.1\n") || !strings.Contains(out, "gateways 1\n") || !strings.Contains(out, "published\n") {
		t.Errorf("the program says:\n%s", out)
	}
}
