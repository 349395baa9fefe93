package harness_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// started is a gateway of the test's own.
func started(t *testing.T) *harness.Gateway {
	t.Helper()
	if os.Getenv("E2E_TCP") != "" {
		t.Skip("needs a gateway of its own, and E2E_TCP is set")
	}
	return harness.Start(t)
}

func TestStart(t *testing.T) {
	t.Parallel()
	g := started(t)
	conn, err := net.Dial("tcp", g.AnyTCP())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	resp, err := http.Get(g.HTTP + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s", resp.Status)
	}
	if g.Logs() == "" {
		t.Error("nothing in the log")
	}
	g.Stop(t)
	select {
	case <-g.Exited(t):
	default:
		t.Error("still running after Stop")
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	g := started(t)
	g.Signal(t, syscall.SIGSTOP)
	g.Signal(t, syscall.SIGCONT)
	g.Kill(t)
	if conn, err := net.Dial("tcp", g.TCP); err == nil {
		conn.Close()
		t.Error("still listening after Kill")
	}
}

// A wrong variable stops the start with one line that names it, and so does a
// port that is taken.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	free := []string{"MQTT_TCP_LISTEN=127.0.0.1:0", "MQTT_WS_LISTEN=127.0.0.1:0", "HTTP_LISTEN=127.0.0.1:0"}
	tests := []struct{ name, variable, names string }{
		{"no duration", "GATEWAY_LEASE=soon", "GATEWAY_LEASE"},
		{"no such store", "GATEWAY_STORE=paper", "GATEWAY_STORE"},
		{"no address", "MQTT_TCP_LISTEN=here", "MQTT_TCP_LISTEN"},
		{"taken port", fmt.Sprint("MQTT_TCP_LISTEN=", taken.Addr()), taken.Addr().String()},
		{"taken HTTP port", fmt.Sprint("HTTP_LISTEN=", taken.Addr()), taken.Addr().String()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, output := harness.Run(t, nil, append(free, tt.variable)...)
			if code == 0 {
				t.Error("exit code 0")
			}
			lines := strings.Split(strings.TrimSpace(output), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, tt.names) {
				t.Errorf("the last line does not name %s:\n%s", tt.names, output)
			}
		})
	}
}
