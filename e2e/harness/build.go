package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// built is the binary of this test process.
var built struct {
	once    sync.Once
	allowed bool   // Main is there to clean up
	dir     string // to be removed
	path    string
	err     error
}

// binary builds the gateway at the first call and returns its path.
func binary() (string, error) {
	built.once.Do(func() {
		if built.path = os.Getenv("E2E_GATEWAY"); built.path != "" {
			return
		}
		if !built.allowed {
			built.err = errors.New("harness: this package needs: func TestMain(m *testing.M) { harness.Main(m) }")
			return
		}
		built.err = build()
	})
	return built.path, built.err
}

func build() error {
	root, err := root()
	if err != nil {
		return err
	}
	if built.dir, err = os.MkdirTemp("", "sluice-e2e-"); err != nil {
		return err
	}
	built.path = filepath.Join(built.dir, "gateway")
	args := []string{"build", "-o", built.path}
	if os.Getenv("E2E_RACE") == "1" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/gateway")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("harness: build the gateway: %w\n%s", err, out)
	}
	return nil
}

// root is the directory of the gateway's module, above that of the tests.
func root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "cmd", "gateway")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("harness: no cmd/gateway above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
