package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Versions of the peers that are built, the newest that could be had.
const (
	natsServer = "github.com/nats-io/nats-server/v2@v2.15.2"
	mochi      = "github.com/mochi-mqtt/server/v2/cmd@v2.7.9"
)

// kit is what the runs need: binaries by name, and the peers that have theirs.
type kit struct {
	dir      string
	binaries map[string]string
	aedes    string // folder of broker.mjs, with its modules
	peers    []*peer
	missing  []string // in words
}

// build makes the gateway, the generator and the peers. A peer that can not be
// had is left out, and the report says so.
func build(ctx context.Context, s *settings) (*kit, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	k := &kit{dir: dir, binaries: make(map[string]string)}
	if k.binaries["bench"], err = os.Executable(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(s.load, "go.mod")); err != nil {
		return nil, fmt.Errorf("the load generator is not in %s; -mqttload says where it is", s.load)
	}
	if err := k.goBuild(ctx, "mqttload", s.load, "."); err != nil {
		return nil, err
	}
	if err := k.goBuild(ctx, "sluice", s.root, "./cmd/gateway"); err != nil {
		return nil, err
	}
	k.without("nats", k.goInstall(ctx, "nats", natsServer, "nats-server"))
	k.without("mochi", k.goInstall(ctx, "mochi", mochi, "cmd"))
	k.without("mosquitto", k.find("mosquitto", "mosquitto", "/usr/sbin/mosquitto"))
	k.without("redis", k.find("redis", "redis-server"))
	k.without("aedes", k.npm(ctx, filepath.Join(s.root, "e2e", "bench", "aedes")))
	needs := map[string][]string{
		"mosquitto": {"mosquitto"}, "mochi": {"mochi"}, "nats": {"nats"}, "nats-js": {"nats"}, "nats-2": {"nats"},
		"sluice-redis": {"redis"}, "sluice-2": {"redis", "nats"}, "aedes-redis": {"redis", "node"}, "aedes-redis-2": {"redis", "node"},
	}
	for _, p := range everyone() {
		ok := true
		for _, n := range needs[p.name] {
			ok = ok && k.binaries[n] != ""
		}
		if ok {
			k.peers = append(k.peers, p)
		}
	}
	return k, ctx.Err()
}

func (k *kit) without(what string, err error) {
	if err != nil {
		k.missing = append(k.missing, fmt.Sprintf("%s: %v", what, err))
		fmt.Fprintf(os.Stderr, "bench: without %s: %v\n", what, err)
	}
}

func command(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args[:min(3, len(cmd.Args))], " "), err, tail(out))
	}
	return nil
}

func (k *kit) goBuild(ctx context.Context, name, dir, pkg string) error {
	k.binaries[name] = filepath.Join(k.dir, name)
	return command(ctx, dir, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", k.binaries[name], pkg)
}

func (k *kit) goInstall(ctx context.Context, name, module, binary string) error {
	dir := filepath.Join(k.dir, "go-"+name)
	if err := command(ctx, k.dir, []string{"CGO_ENABLED=0", "GOBIN=" + dir}, "go", "install", module); err != nil {
		return err
	}
	k.binaries[name] = filepath.Join(dir, binary)
	return nil
}

func (k *kit) find(name string, candidates ...string) error {
	for _, c := range candidates {
		if path, err := exec.LookPath(c); err == nil {
			k.binaries[name] = path
			return nil
		}
	}
	return errors.New("not installed")
}

// npm copies broker.mjs and what it needs to a folder of its own.
func (k *kit) npm(ctx context.Context, from string) error {
	if err := k.find("node", "node"); err != nil {
		return err
	}
	k.aedes = filepath.Join(k.dir, "aedes")
	err := os.CopyFS(k.aedes, os.DirFS(from))
	if err == nil {
		err = command(ctx, k.aedes, nil, "npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund")
	}
	if err != nil {
		delete(k.binaries, "node")
	}
	return err
}

// machine is the first line of the results: where and with what they came to be.
type machine struct {
	Date     string            `json:"date"`
	Cores    int               `json:"cores"`
	CPU      string            `json:"cpu"`
	Kernel   string            `json:"kernel"`
	Go       string            `json:"go"`
	Versions map[string]string `json:"versions"`
	Missing  []string          `json:"missing,omitempty"`
}

func describe(ctx context.Context, k *kit) *machine {
	m := &machine{
		Date: time.Now().UTC().Format("2006-01-02"), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Versions: make(map[string]string), Missing: k.missing,
	}
	m.Kernel = firstLine(ctx, "uname", "-sr")
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	for name, args := range map[string][]string{
		"sluice": {"version"}, "mosquitto": {"-h"}, "nats": {"--version"}, "redis": {"--version"}, "node": {"--version"},
	} {
		if path := k.binaries[name]; path != "" {
			m.Versions[name] = firstLine(ctx, path, args...)
		}
	}
	if k.binaries["mochi"] != "" {
		_, m.Versions["mochi"], _ = strings.Cut(mochi, "@")
	}
	return m
}

func firstLine(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput() // some say it with an exit code
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(line)
}

// appendLine writes v as one line of JSON.
func appendLine(f *os.File, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return err
}
