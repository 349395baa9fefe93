package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-mqtt/sluice/protocol"
)

// buffer may be written and read at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestNoSecretsInLog (V19): whatever credentials come, right and wrong ones, no
// password, token, hash or payload is in the log, at its most talkative, nor in
// what check-config prints.
func TestNoSecretsInLog(t *testing.T) {
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	const right, wrong, secret, bearer = "right-hunter2", "wrong-hunter3", "jwt-secret-0123456789abcdef0123456789", "bearer-hunter4"
	if exit, _, stderr := outputOf("ann:"+right+"\n", nil, "passwd", "--create", "--batch", "--hash", "scram-sha-256", users); exit != exitOK {
		t.Fatal(stderr)
	}
	file, err := os.ReadFile(users)
	if err != nil {
		t.Fatal(err)
	}
	_, hash, _ := strings.Cut(strings.TrimSpace(string(file)), ":")
	secretFile := filepath.Join(dir, "secret")
	if err := os.WriteFile(secretFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sign := func(key, user string) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good, bad := sign(secret, "bob"), sign("another-secret-0123456789abcdef01234", "bob")
	environ := append([]string{
		"AUTH_PASSWORD_FILE=" + users, "AUTH_JWT_SECRET_FILE=" + secretFile, "LOG_LEVEL=debug", "AUTH_HTTP_TIMEOUT=10s", "MQTT_CONNECT_TIMEOUT=2m",
		"AUTH_HTTP_USER_URL=http://127.0.0.1:1/user", "AUTH_HTTP_FORM=get", "AUTH_HTTP_TOKEN=" + bearer,
	}, loopbackPorts...)

	var log buffer
	signals := make(chan os.Signal, 2)
	ended := make(chan int, 1)
	go func() {
		ended <- run(process{environ: append(environ, "GATEWAY_DRAIN=0s"), stdout: &log, stderr: &log, signals: signals})
	}()
	address := ""
	for until := time.Now().Add(30 * time.Second); address == ""; time.Sleep(10 * time.Millisecond) {
		for _, f := range strings.Fields(log.String()) {
			if a, ok := strings.CutPrefix(f, "tcp="); ok {
				address = a
			}
		}
		if time.Now().After(until) {
			t.Fatalf("it does not serve: %s", log.String())
		}
	}
	for _, tt := range []struct {
		user, pass, method, data string
		want                     protocol.ReasonCode
	}{
		{"ann", right, "", "", protocol.Success}, {"ann", wrong, "", "", protocol.BadUserNameOrPassword},
		{"eve", wrong, "", "", protocol.ServerUnavailable}, // the HTTP server does not answer
		{"x", good, "", "", protocol.Success}, {"x", bad, "", "", protocol.BadUserNameOrPassword}, {"x", good + "x", "", "", protocol.BadUserNameOrPassword},
		{"", "", "JWT", good, protocol.Success}, {"", "", "JWT", bad, protocol.BadUserNameOrPassword},
		{"", "", "SCRAM-SHA-256", "n,,n=ann,r=" + wrong, protocol.Success}, {"", "", "SCRAM-SHA-256", wrong, protocol.BadUserNameOrPassword},
	} {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		p := &protocol.Connect{Version: protocol.V5, CleanStart: true, Username: tt.user, HasUsername: tt.user != "", Password: []byte(tt.pass), HasPassword: tt.pass != ""}
		p.Will = &protocol.Will{Topic: "will", Payload: []byte(wrong)}
		if tt.method != "" {
			p.AuthMethod, p.HasAuthMethod, p.AuthData, p.HasAuthData = tt.method, true, []byte(tt.data), true
		}
		b, err := protocol.AppendPacket(nil, p, protocol.V5)
		if err == nil {
			_, err = nc.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		nc.SetReadDeadline(time.Now().Add(2 * time.Minute))
		switch answer, err := protocol.NewReader(nc, 0).ReadPacket(protocol.V5); a := answer.(type) {
		case *protocol.Connack:
			if a.Code != tt.want {
				t.Errorf("%s%s: %v, want %v", tt.user, tt.method, a.Code, tt.want)
			}
		case *protocol.Auth: // a challenge
		default:
			t.Errorf("%s%s: %v, %v", tt.user, tt.method, answer, err)
		}
		nc.Close()
	}
	signals <- syscall.SIGTERM
	if exit := <-ended; exit != exitOK {
		t.Errorf("exit %d", exit)
	}
	_, stdout, stderr := output(environ, "check-config")
	everything := log.String() + stdout + stderr
	if !strings.Contains(everything, "user=ann") || !strings.Contains(everything, "reason=") {
		t.Fatalf("the log is not what this test thinks: %s", everything)
	}
	for _, s := range []string{right, wrong, secret, bearer, good, bad, strings.Split(good, ".")[2], strings.Split(good, ".")[1], hash, strings.Split(hash, "$")[2], "hunter"} {
		if i := strings.Index(everything, s); i >= 0 {
			t.Errorf("%q is in it: %s", s, everything[max(0, i-200):min(len(everything), i+100)])
		}
	}
}
