package clients_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
)

// runRR runs mosquitto_rr, which subscribes to the response topic, publishes a
// request and prints the first response. The channel gives what it printed.
func runRR(t testing.TB, g *harness.Gateway, version int, request, response, payload string) <-chan string {
	t.Helper()
	if _, err := exec.LookPath("mosquitto_rr"); err != nil {
		missing(t, "needs mosquitto_rr")
	}
	m := &mosquitto{connect: line.Connect{URL: "mqtt://" + g.AnyTCP(), Version: version}}
	args := append(m.server(), "-t", request, "-e", response, "-m", payload, "-q", "1", "-W", fmt.Sprint(int(patience.Seconds())))
	if version == 5 {
		args = append(args, "-D", "publish", "correlation-data", payload)
	}
	cmd := exec.Command("mosquitto_rr", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() { // ends with mosquitto_rr, which has a limit of its own
		cmd.Wait()
		said <- strings.TrimSpace(out.String())
	}()
	return said
}
