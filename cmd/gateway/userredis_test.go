package main

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// redisServer starts a server of its own and returns its URL.
func redisServer(t *testing.T) string {
	t.Helper()
	address := freeAddress(t)
	redisAt(t, address)
	return "redis://" + address
}

// TestRedisUsers: a user whom passwd puts into Redis may connect at once, with
// that password alone, and is sent away soon after it is taken out.
func TestRedisUsers(t *testing.T) {
	environ := []string{"REDIS_URL=" + redisServer(t), "REDIS_KEY_PREFIX=test:", "AUTH_REDIS_USERS=true", "AUTH_RELOAD_INTERVAL=50ms", "MQTT_TCP_LISTEN=127.0.0.1:0", "GATEWAY_DRAIN=0s",
		"MQTT_CONNECT_TIMEOUT=2m"} // hashes take their time under the race detector
	environ = append(environ, loopbackPorts[1:]...)
	edit := func(stdin string, args ...string) string {
		t.Helper()
		exit, stdout, stderr := outputOf(stdin, environ, append([]string{"passwd", "--redis"}, args...)...)
		if exit != exitOK {
			t.Fatalf("%v: %s", args, stderr)
		}
		return stdout
	}
	var log buffer
	signals, ended := make(chan os.Signal, 2), make(chan int, 1)
	go func() { ended <- run(process{environ: environ, stdout: &log, stderr: &log, signals: signals}) }()
	address := ""
	for until := time.Now().Add(30 * time.Second); address == ""; time.Sleep(10 * time.Millisecond) {
		if _, after, ok := strings.Cut(log.String(), "tcp="); ok && strings.Contains(after, "\n") {
			address = strings.Fields(after)[0]
		}
		if time.Now().After(until) {
			t.Fatalf("it does not serve: %s", log.String())
		}
	}
	connect := func(user, pass string) (net.Conn, *protocol.Reader, protocol.ReasonCode) {
		t.Helper()
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(2 * time.Minute))
		b, err := protocol.AppendPacket(nil, &protocol.Connect{Version: protocol.V5, CleanStart: true, Username: user, HasUsername: true, Password: []byte(pass), HasPassword: true}, protocol.V5)
		if err == nil {
			_, err = nc.Write(b)
		}
		r := protocol.NewReader(nc, 0)
		p, err2 := r.ReadPacket(protocol.V5)
		a, ok := p.(*protocol.Connack)
		if err != nil || !ok {
			t.Fatalf("%v, %v, %v", p, err, err2)
		}
		return nc, r, a.Code
	}
	refused := gateway.ErrBadCredentials.Code
	if _, _, code := connect("ann", "one"); code != refused {
		t.Errorf("nobody is there: %v", code)
	}
	edit("one\n", "ann")
	edit("bob:two\ncid:three\n", "--batch", "--hash", "scram-sha-256")
	for _, tt := range []struct {
		user, pass string
		want       protocol.ReasonCode
	}{{"ann", "one", 0}, {"ann", "two", refused}, {"bob", "two", 0}, {"dan", "one", refused}} {
		if _, _, code := connect(tt.user, tt.pass); code != tt.want {
			t.Errorf("%s, %s: %v, want %v", tt.user, tt.pass, code, tt.want)
		}
	}
	if got := edit("", "--list"); strings.Count(got, "\n") != 3 || !strings.Contains(got, "ann\targon2id\n") {
		t.Errorf("list: %q", got)
	}
	_, r, code := connect("cid", "three")
	edit("", "--delete", "cid")
	if p, err := r.ReadPacket(protocol.V5); code != 0 || err != nil || p.(*protocol.Disconnect).Code != protocol.NotAuthorized {
		t.Errorf("%v: %v, %v", code, p, err)
	}
	signals <- syscall.SIGTERM
	if exit := <-ended; exit != exitOK {
		t.Errorf("exit %d", exit)
	}
}
