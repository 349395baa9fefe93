package compose_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// engine is a Docker engine of the test's own, with its data in a directory
// that goes away with the test.
type engine struct {
	t    *testing.T
	root string // of the checkout
	env  []string
	log  bytes.Buffer // of dockerd; read once that has ended
}

// startEngine starts dockerd. It must run in name spaces of its own (e2e/compose/run
// sees to that): its bridges and rules of the packet filter are then no one
// else's, and everything is gone when the name spaces are.
func startEngine(t *testing.T) *engine {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "docker.sock")
	e := &engine{t: t, root: root}
	e.env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+dir, "COMPOSE_PROJECT_NAME=sluice",
		// Both build by the engine itself, whose images it takes for the
		// names that are in the Dockerfile.
		"DOCKER_BUILDKIT=0", "COMPOSE_DOCKER_CLI_BUILD=0")
	// Volumes are in memory: the fsync of Redis shall not wait behind the
	// gigabytes of the images.
	volumes := filepath.Join(dir, "data", "volumes")
	if err := os.MkdirAll(volumes, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", volumes, "tmpfs", 0, "size=256m,mode=0711"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(volumes, 0) })
	daemon := exec.Command("dockerd", "--host", "unix://"+socket, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "--bridge", "none",
		"--shutdown-timeout", "20")
	daemon.Stdout, daemon.Stderr = &e.log, &e.log
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }() // ends with the daemon
	t.Cleanup(func() {
		daemon.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			daemon.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("end of the engine's log:\n%s", tail(e.log.String(), 3000))
		}
	})
	e.eventually("a Docker engine", time.Minute, func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the engine ended: %v\n%s", err, tail(e.log.String(), 3000))
		default:
		}
		_, err := e.try("docker", "version")
		return err
	})
	return e
}

// commandLimit bounds one command: the build of the image takes longest.
const commandLimit = 6 * time.Minute

// try runs a command in the checkout and returns what it printed.
func (e *engine) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = e.root, e.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, tail(string(out), 4000))
	}
	return strings.TrimSpace(string(out)), nil
}

// run is try for what must not fail.
func (e *engine) run(name string, args ...string) string {
	e.t.Helper()
	out, err := e.try(name, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

func (e *engine) docker(args ...string) string {
	e.t.Helper()
	return e.run("docker", args...)
}

// eventually waits until there is no error any more.
func (e *engine) eventually(what string, limit time.Duration, check func() error) {
	e.t.Helper()
	for until := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			e.t.Fatalf("no %s within %v: %v", what, limit, err)
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
