package clients_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
)

// TestFirstUse is the first minute with the gateway: built, started with nothing in
// its environment, it serves MQTT, WebSocket and HTTP at the documented addresses
// in under a second, the Mosquitto commands talk to it without options, and it goes
// when asked.
func TestFirstUse(t *testing.T) {
	addresses := []string{"127.0.0.1:1883", "127.0.0.1:8083", "127.0.0.1:18083"}
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Skipf("the default address is in use: %v", err)
		}
		l.Close()
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(root, "bin", "e2e", "gateway")
	build := exec.Command("go", "build", "-o", binary, "./cmd/gateway")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var log strings.Builder
	start := func() (gateway *exec.Cmd, ended chan error, took time.Duration) {
		gateway = exec.Command(binary)
		gateway.Env = []string{} // nil would be ours
		gateway.Stdout, gateway.Stderr = &log, &log
		started := time.Now()
		if err := gateway.Start(); err != nil {
			t.Fatal(err)
		}
		ended = make(chan error, 1)
		go func() { ended <- gateway.Wait(); close(ended) }() // ends with the gateway
		t.Cleanup(func() {
			gateway.Process.Kill()
			for range ended {
			}
		})
		for _, a := range addresses {
			awaitListener(t, ctx, a)
		}
		awaitReady(t, ctx)
		return gateway, ended, time.Since(started)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", log.String())
		}
	})
	gateway, ended, took := start()
	for tries := 1; took > time.Second && tries < 5; tries++ { // others may have the machine for a while
		gateway.Process.Kill()
		for range ended {
		}
		gateway, ended, took = start()
	}
	if took > time.Second {
		t.Errorf("ready after %v, want less than a second", took)
	}
	for _, path := range []string{"/healthz", "/metrics"} {
		if code, body := get(t, ctx, path); code != http.StatusOK || body == "" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}

	// What a newcomer types: mosquitto_sub -t hello, mosquitto_pub -t hello -m world.
	if _, err := exec.LookPath("mosquitto_sub"); err != nil {
		missing(t, "needs mosquitto_sub")
	}
	sub := exec.CommandContext(ctx, "mosquitto_sub", "-t", "hello", "-C", "1")
	said, err := sub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	// Retained, so that it does not matter who comes first.
	if out, err := exec.CommandContext(ctx, "mosquitto_pub", "-t", "hello", "-m", "world", "-r").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v %s", err, out)
	}
	text, _ := io.ReadAll(said)
	if err := sub.Wait(); err != nil || string(text) != "world\n" {
		t.Fatalf("mosquitto_sub said %q, %v", text, err)
	}

	// And a page's WebSocket, at its address.
	g := &harness.Gateway{TCP: addresses[0]}
	web := variant{"mqttjs", "ws", 5}.connect(t, g, line.Connect{URL: "ws://" + addresses[1] + "/mqtt", Clean: true})
	web.subscribe(filter("hello", 0))
	web.expect(retained("hello", "world", 0))
	web.disconnect()

	if err := gateway.Process.Signal(os.Signal(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	case <-ctx.Done():
		t.Fatal("the gateway did not end after SIGTERM")
	}
	if lines := strings.Split(log.String(), "\n"); slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "level=ERROR") }) {
		t.Errorf("errors in the log:\n%s", log.String())
	}
}

// awaitListener polls until the address accepts: nothing announces it to a process
// outside.
func awaitListener(t *testing.T, ctx context.Context, address string) {
	t.Helper()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		pause(t, ctx, fmt.Sprintf("%s does not accept: %v", address, err))
	}
}

// awaitReady polls until the gateway says that it is ready.
func awaitReady(t *testing.T, ctx context.Context) {
	t.Helper()
	for {
		code, body := get(t, ctx, "/readyz")
		if code == http.StatusOK {
			return
		}
		pause(t, ctx, fmt.Sprintf("not ready: %d %s", code, body))
	}
}

// pause waits between two polls, or fails when the time is over.
func pause(t *testing.T, ctx context.Context, why string) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal(why)
	case <-time.After(5 * time.Millisecond):
	}
}

func get(t *testing.T, ctx context.Context, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:18083"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
