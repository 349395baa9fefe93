package clients_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
)

// tlsGateway is a gateway with listeners of TLS, and the certificates that
// openssl has made for it and its clients.
type tlsGateway struct {
	*harness.Gateway
	t        *testing.T
	dir      string
	tls, wss string // host:port
}

// startTLS asks clients for certificates as policy says.
func startTLS(t *testing.T, policy string) *tlsGateway {
	t.Helper()
	for _, command := range []string{"openssl", "mosquitto_sub", "mosquitto_pub"} {
		if _, err := exec.LookPath(command); err != nil {
			missing(t, "needs "+command)
		}
	}
	s := &tlsGateway{t: t, dir: t.TempDir()}
	s.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=authority", "-keyout", s.file("ca.key"), "-out", s.file("ca.pem"))
	s.issue("server", "subjectAltName=IP:127.0.0.1")
	s.issue("client", "subjectAltName=URI:spiffe://example.org/device")
	s.Gateway = harness.Start(t, "MQTT_TLS_LISTEN=127.0.0.1:0", "MQTT_WSS_LISTEN=127.0.0.1:0", "TLS_CLIENT_CERT="+policy,
		"TLS_CERT_FILE="+s.file("server.pem"), "TLS_KEY_FILE="+s.file("server.key"), "TLS_CLIENT_CA_FILE="+s.file("ca.pem"),
		"TLS_RELOAD_INTERVAL=0s")
	for name, to := range map[string]*string{"tls": &s.tls, "wss": &s.wss} {
		listener := regexp.MustCompile(` ` + name + `=(\S+)`)
		s.await("listener "+name, func() bool {
			m := listener.FindStringSubmatch(s.Logs())
			if m != nil {
				*to = m[1]
			}
			return m != nil
		})
	}
	return s
}

// await waits until the condition holds.
func (s *tlsGateway) await(what string, holds func() bool) {
	s.t.Helper()
	for until := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			s.t.Fatalf("never: %s", what)
		}
	}
}

func (s *tlsGateway) file(name string) string { return filepath.Join(s.dir, name) }

// openssl runs the command and returns what it says.
func (s *tlsGateway) openssl(args ...string) string {
	s.t.Helper()
	out, err := s.run("openssl", args...)
	if err != nil {
		s.t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
	}
	return out
}

func (s *tlsGateway) run(command string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, command, args...).CombinedOutput()
	return string(out), err
}

// issue makes a certificate with a new key, or replaces the one of the name.
func (s *tlsGateway) issue(name, extension string) {
	s.t.Helper()
	s.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN="+name,
		"-keyout", s.file(name+".key"), "-out", s.file(name+".csr"))
	if err := os.WriteFile(s.file(name+".ext"), []byte(extension), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.openssl("x509", "-req", "-days", "1", "-in", s.file(name+".csr"), "-CA", s.file("ca.pem"), "-CAkey", s.file("ca.key"),
		"-CAcreateserial", "-extfile", s.file(name+".ext"), "-out", s.file(name+".pem"))
}

// serial is the number of a certificate in a file.
func (s *tlsGateway) serial(name string) string {
	s.t.Helper()
	return strings.TrimSpace(s.openssl("x509", "-noout", "-serial", "-in", s.file(name)))
}

// shown is the serial number of the certificate that the gateway shows.
func (s *tlsGateway) shown() string {
	s.t.Helper()
	out, _ := s.run("openssl", "s_client", "-connect", s.tls, "-CAfile", s.file("ca.pem"))
	if err := os.WriteFile(s.file("shown.pem"), []byte(out), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.serial("shown.pem")
}

// mosquittoArgs are those of both commands, with a certificate if asked for.
func (s *tlsGateway) mosquittoArgs(certificate bool, more ...string) []string {
	host, port, _ := strings.Cut(s.tls, ":")
	args := []string{"-h", host, "-p", port, "--cafile", s.file("ca.pem")}
	if certificate {
		args = append(args, "--cert", s.file("client.pem"), "--key", s.file("client.key"))
	}
	return append(args, more...)
}

// TestTLSByOpenSSL: a foreign implementation finds the certificate good, gets
// the versions and suites that it should, and no others.
func TestTLSByOpenSSL(t *testing.T) {
	s := startTLS(t, "none")
	for _, tt := range []struct {
		name string
		args []string
		ok   bool
	}{
		{"TLS 1.3", []string{"-tls1_3"}, true},
		{"TLS 1.2", []string{"-tls1_2"}, true},
		{"TLS 1.1", []string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, false},
		{"CBC", []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"}, false},
		{"RSA key exchange", []string{"-tls1_2", "-cipher", "AES128-GCM-SHA256"}, false},
	} {
		args := append([]string{"s_client", "-connect", s.tls, "-CAfile", s.file("ca.pem"), "-verify_return_error", "-verify_ip", "127.0.0.1"}, tt.args...)
		if out, err := s.run("openssl", args...); (err == nil) != tt.ok {
			t.Errorf("%s: %v\n%s", tt.name, err, out)
		}
	}
}

// TestTLSByMosquitto: its clients come in with a certificate and only so, and
// what one publishes the other gets. A new certificate is shown after SIGHUP,
// while the old connection goes on.
func TestTLSByMosquitto(t *testing.T) {
	s := startTLS(t, "required")
	if out, err := s.run("mosquitto_pub", s.mosquittoArgs(false, "-t", "a", "-m", "x")...); err == nil {
		t.Errorf("let in without a certificate: %s", out)
	}
	sub := exec.Command("mosquitto_sub", s.mosquittoArgs(true, "-t", "a", "-q", "1")...)
	out, err := sub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Process.Kill(); sub.Wait() })
	lines := make(chan string, 1000)
	go func() { // ends with the command
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	await := func(text string) {
		t.Helper()
		timeout := time.After(patience)
		for {
			select {
			case l, ok := <-lines:
				if !ok {
					t.Fatalf("mosquitto_sub ended before %q", text)
				}
				if strings.Contains(l, text) {
					return
				}
			case <-timeout:
				t.Fatalf("mosquitto_sub never said %q", text)
			}
		}
	}
	publish := func(text string) {
		t.Helper()
		if out, err := s.run("mosquitto_pub", s.mosquittoArgs(true, "-t", "a", "-q", "1", "-m", text)...); err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
		await(text)
	}
	s.await("subscribed", func() bool { return s.Metric(t, "sluice_subscriptions") == "1" })
	publish("before the reload")
	if got, want := s.shown(), s.serial("server.pem"); got != want {
		t.Fatalf("shows %s, want %s", got, want)
	}
	s.issue("server", "subjectAltName=IP:127.0.0.1")
	s.Signal(t, syscall.SIGHUP)
	want := s.serial("server.pem")
	s.await("shows "+want, func() bool { return s.shown() == want })
	publish("after the reload")
}

// TestWSSByMQTTJS: MQTT.js connects over WebSocket in TLS, with a certificate,
// and gets what it publishes.
func TestWSSByMQTTJS(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "needs node")
	}
	if _, err := os.Stat("mqttjs/node_modules/mqtt"); err != nil {
		missing(t, "needs MQTT.js: run e2e/install.sh")
	}
	s := startTLS(t, "required")
	const script = `
const [url, ca, cert, key] = process.argv.slice(1)
const fs = require('fs')
const c = require('./mqttjs/node_modules/mqtt').connect(url, {
	protocolVersion: 5, ca: fs.readFileSync(ca), cert: fs.readFileSync(cert), key: fs.readFileSync(key), reconnectPeriod: 0,
})
c.on('error', (e) => { console.error(e); process.exit(1) })
c.on('connect', () => c.subscribe('a', { qos: 1 }, () => c.publish('a', 'x'.repeat(100000), { qos: 1 })))
c.on('message', (topic, m) => { console.log(topic, m.length); c.end(() => process.exit(0)) })
`
	out, err := s.run("node", "-e", script, "wss://"+s.wss+"/mqtt", s.file("ca.pem"), s.file("client.pem"), s.file("client.key"))
	if err != nil || strings.TrimSpace(out) != "a 100000" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTLSKeyUpdate: a client that changes its keys, and asks the gateway to do
// so too (RFC 8446 §4.6.3), is answered under the new ones, each time.
func TestTLSKeyUpdate(t *testing.T) {
	s := startTLS(t, "none")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", s.tls, "-CAfile", s.file("ca.pem"), "-tls1_3")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { cmd.Wait(); w.Close() }() // ends with in, or the context
	var said []byte
	await := func(what string) {
		t.Helper()
		for !bytes.Contains(said, []byte(what)) {
			b := make([]byte, 4096)
			n, err := out.Read(b)
			if err != nil {
				t.Fatalf("%q did not come, but %q and %v", what, said, err)
			}
			said = append(said, b[:n]...)
		}
		_, said, _ = bytes.Cut(said, []byte(what))
	}
	await("Verify return code: 0")
	io.WriteString(in, "\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01k")
	await("\x20\x02\x00\x00")
	for range 3 {
		io.WriteString(in, "K\n") // a command of s_client
		await("KEYUPDATE")
		io.WriteString(in, "\xc0\x00")
		await("\xd0\x00")
	}
	in.Close()
	io.Copy(io.Discard, out)
}
