// Package security_test has real clients, servers and tools on the other side of
// what keeps people out: the Mosquitto commands with passwords and certificates,
// an identity provider with a key set, an HTTP server that decides, and rules that
// change while messages are on their way.
package security_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// patience bounds every wait for something that must happen.
const patience = 60 * time.Second

func TestMain(m *testing.M) { harness.Main(m) }

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never: %s", what)
		}
	}
}

// hashed is a line of a password file in Mosquitto's format, for a password that
// is the user's name.
func hashed(t *testing.T, user string) string {
	t.Helper()
	salt := []byte("twelve bytes")
	key, err := pbkdf2.Key(sha512.New, user, salt, 101, 64)
	if err != nil {
		t.Fatal(err)
	}
	b := base64.StdEncoding
	return user + ":$7$101$" + b.EncodeToString(salt) + "$" + b.EncodeToString(key) + "\n"
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// as is a CONNECT of MQTT 5 by a user, whose password is his name.
func as(user, id string, props ...wire.Prop) wire.Connect {
	return wire.Connect{Version: wire.V5, ClientID: id, Clean: true, Username: &user, Password: &user, Props: props}
}

// durable makes it a session that outlives its connections, and is resumed.
func durable(c wire.Connect) wire.Connect {
	c.Clean = false
	c.Props = append(c.Props, wire.U32Prop(wire.SessionExpiryID, 3600))
	return c
}

func dial(t *testing.T, g *harness.Gateway, c wire.Connect) *wire.Client {
	t.Helper()
	return wire.Dial(t, g.TCP).Connect(c)
}

// tool returns the path of a command; without it the test is skipped, and fails
// with CI set.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s: run e2e/install.sh", name)
	}
	t.Skipf("needs %s", name)
	return ""
}

// run runs a command and returns what it says.
func run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// listener is the address of a listener other than tcp and ws, from the log.
func listener(t *testing.T, g *harness.Gateway, name string) (address string) {
	t.Helper()
	at := regexp.MustCompile(` ` + name + `=(\S+)`)
	eventually(t, "listener "+name, func() bool {
		m := at.FindStringSubmatch(g.Logs())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	return address
}

// mosquitto are arguments of the Mosquitto commands for an address.
func mosquitto(address string, more ...string) []string {
	host, port, _ := strings.Cut(address, ":")
	return append([]string{"-h", host, "-p", port}, more...)
}

// authority makes certificates with openssl.
type authority struct {
	t   *testing.T
	dir string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	tool(t, "openssl")
	a := &authority{t, t.TempDir()}
	a.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=authority", "-keyout", a.file("ca.key"), "-out", a.file("ca.pem"))
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) openssl(args ...string) {
	a.t.Helper()
	if out, err := run("openssl", args...); err != nil {
		a.t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
	}
}

// issue makes name.pem and name.key for a common name.
func (a *authority) issue(name, extension string) {
	a.t.Helper()
	a.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN="+name,
		"-keyout", a.file(name+".key"), "-out", a.file(name+".csr"))
	write(a.t, a.file(name+".ext"), extension)
	a.openssl("x509", "-req", "-days", "1", "-in", a.file(name+".csr"), "-CA", a.file("ca.pem"), "-CAkey", a.file("ca.key"),
		"-CAcreateserial", "-extfile", a.file(name+".ext"), "-out", a.file(name+".pem"))
}
