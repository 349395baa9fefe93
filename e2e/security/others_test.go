package security_test

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestF46HTTP: an HTTP server decides; whatever it does but answer yes, nobody is
// let in and nothing is allowed (V14).
func TestF46HTTP(t *testing.T) {
	t.Parallel()
	var mode atomic.Value
	mode.Store("yes")
	done := make(chan struct{})
	answer := func(w http.ResponseWriter, r *http.Request, yes bool) {
		switch mode.Load() {
		case "hangs":
			select {
			case <-done:
			case <-r.Context().Done():
			}
			return
		case "fails":
			w.WriteHeader(http.StatusInternalServerError)
			return
		case "says nothing of sense":
			w.Write([]byte(`{"result":"perhaps"}`))
			return
		case "sends elsewhere":
			http.Redirect(w, r, "/yes", http.StatusFound)
			return
		case "cuts off":
			panic(http.ErrAbortHandler)
		}
		if !yes {
			w.WriteHeader(http.StatusForbidden)
		}
		w.Write([]byte(`{"result":"` + map[bool]string{true: "allow", false: "deny"}[yes] + `"}`))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/user", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, r.FormValue("username") == "ann" && r.FormValue("password") == "ann")
	})
	mux.HandleFunc("/acl", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, strings.HasPrefix(r.FormValue("topic"), "home/"))
	})
	mux.HandleFunc("/yes", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"result":"allow"}`)) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(done) })
	g := harness.Start(t, "AUTH_HTTP_USER_URL="+server.URL+"/user", "AUTH_HTTP_ACL_URL="+server.URL+"/acl", "AUTH_HTTP_FORM=form",
		"AUTH_HTTP_RESPONSE=json", "AUTH_HTTP_TIMEOUT=1s", "AUTH_HTTP_CACHE=0s")

	connected := dial(t, g, as("ann", "connected"))
	publish := func(topic string) byte {
		connected.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1})
		return wire.Next[wire.Ack](connected).Code
	}
	if code := publish("home/x"); code >= 0x80 {
		t.Errorf("what the server allows: %#x", code)
	}
	if code := publish("other"); code != 0x87 {
		t.Errorf("what it denies: %#x", code)
	}
	wire.Dial(t, g.TCP).Refused(as("bob", "bob"), 0x86)
	for i, m := range []string{"hangs", "fails", "says nothing of sense", "sends elsewhere", "cuts off", "gone"} {
		mode.Store(m)
		if m == "gone" {
			mode.Store("cuts off")
			server.Config.SetKeepAlivesEnabled(false)
			server.Listener.Close()
		}
		begin := time.Now()
		wire.Dial(t, g.TCP).Refused(as("ann", "late"), 0x88)
		if d := time.Since(begin); d > 20*time.Second { // a second, where nobody else wants the processors
			t.Errorf("%s: refused after %v", m, d)
		}
		three := as("ann", "late")
		three.Version = wire.V311
		wire.Dial(t, g.TCP).Refused(three, 3)
		topic := "home/" + strconv.Itoa(i) // of which no answer is remembered
		if code := publish(topic); code != 0x87 {
			t.Errorf("%s: a publish is answered %#x", m, code)
		}
		connected.Send(wire.Sub(2, topic, 0))
		if code := wire.Next[wire.Suback](connected).Codes[0]; code != 0x87 {
			t.Errorf("%s: a subscription is answered %#x", m, code)
		}
	}
}

// TestCertificateRules: the name in a client's certificate is the user of the
// rules, and owns the session, whatever CONNECT says.
func TestCertificateRules(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", "subjectAltName=IP:127.0.0.1")
	a.issue("one", "")
	a.issue("two", "")
	acl := filepath.Join(a.dir, "acl")
	write(t, acl, "pattern readwrite device/%u/#\nuser two\ntopic read news\n")
	g := harness.Start(t, "MQTT_TLS_LISTEN=127.0.0.1:0", "TLS_CERT_FILE="+a.file("server.pem"), "TLS_KEY_FILE="+a.file("server.key"),
		"TLS_CLIENT_CA_FILE="+a.file("ca.pem"), "TLS_CLIENT_CERT=required", "TLS_IDENTITY=cn", "AUTH_ACL_FILE="+acl)
	at := listener(t, g, "tls")
	args := func(name string, more ...string) []string {
		return append(mosquitto(at, "-V", "5", "--cafile", a.file("ca.pem"), "--cert", a.file(name+".pem"), "--key", a.file(name+".key")), more...)
	}
	one := mosquittoSub(t, g, "device/one/#", args("one", "-i", "shared", "-x", "3600", "-c")...)
	pub := func(name, topic, text string, more ...string) string {
		out, _ := run(tool(t, "mosquitto_pub"), args(name, append(more, "-q", "1", "-t", topic, "-m", text)...)...)
		return strings.TrimSpace(out)
	}
	if out := pub("one", "device/one/state", "on"); out != "" {
		t.Errorf("its own topic: %s", out)
	}
	one.says("on")
	for _, more := range [][]string{nil, {"-u", "one"}} { // a name that nobody has checked
		if out := pub("two", "device/one/state", "off", more...); !strings.Contains(out, "Not authorized") {
			t.Errorf("another's topic, %q: %s", more, out)
		}
	}
	if out := pub("two", "device/two/state", "on", "-i", "shared"); !strings.Contains(out, "Not authorized") {
		t.Errorf("another's session: %s", out)
	}
	if out := pub("one", "device/one/state", "still"); out != "" {
		t.Errorf("after that: %s", out)
	}
	one.says("still")
	// Nobody comes in with a certificate of some other authority.
	other := newAuthority(t)
	other.issue("one", "")
	out, err := run(tool(t, "mosquitto_pub"), append(mosquitto(at, "--cafile", a.file("ca.pem"), "--cert", other.file("one.pem"), "--key", other.file("one.key")),
		"-t", "device/one/state", "-m", "x")...)
	if err == nil {
		t.Errorf("a certificate of another authority: %s", out)
	}
}

// TestSCRAM: a client that knows the password proves it without giving it away,
// and has the gateway prove the same.
func TestSCRAM(t *testing.T) {
	t.Parallel()
	users := filepath.Join(t.TempDir(), "users")
	if code, out := harness.RunInput(t, "pencil\n", []string{"passwd", "--create", "--hash", "scram-sha-256", users, "user"}); code != 0 {
		t.Fatal(out)
	}
	g := harness.Start(t, "AUTH_PASSWORD_FILE="+users)
	for password, want := range map[string]byte{"pencil": 0, "pencils": 0x86} {
		// RFC 5802 §3.
		nonce := rand.Text()
		bare := "n=user,r=" + nonce
		c := wire.Dial(t, g.TCP)
		c.Send(wire.Connect{Version: wire.V5, ClientID: "c", Clean: true, Props: scramStep("n,," + bare)})
		challenge, _ := wire.Next[wire.Auth](c).Props.Text(wire.AuthDataID)
		final, proof := scramProof(t, bare, challenge, password)
		c.Send(wire.Auth{Code: 0x18, Props: scramStep(final)})
		ack := wire.Next[wire.Connack](c)
		if ack.Code != want {
			t.Errorf("%s: %#x, want %#x", password, ack.Code, want)
		}
		if got, _ := ack.Props.Text(wire.AuthDataID); want == 0 && got != proof {
			t.Errorf("the gateway's proof is %q, want %q", got, proof)
		}
	}
}

func scramStep(text string) wire.Props {
	return wire.Props{wire.StringProp(wire.AuthMethodID, "SCRAM-SHA-256"), wire.StringProp(wire.AuthDataID, text)}
}

// scramProof is the client's last message, and the server's that has to follow.
func scramProof(t *testing.T, bare, challenge, password string) (final, server string) {
	t.Helper()
	field := map[string]string{}
	for _, part := range strings.Split(challenge, ",") {
		name, value, _ := strings.Cut(part, "=")
		field[name] = value
	}
	salt, err := base64.StdEncoding.DecodeString(field["s"])
	rounds, err2 := strconv.Atoi(field["i"])
	if err != nil || err2 != nil {
		t.Fatalf("challenge %q", challenge)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	final = "c=biws,r=" + field["r"]
	all := bare + "," + challenge + "," + final
	key := sign(salted, "Client Key")
	stored := sha256.Sum256(key)
	signature := sign(stored[:], all)
	for i := range key {
		key[i] ^= signature[i]
	}
	encode := base64.StdEncoding.EncodeToString
	return final + ",p=" + encode(key), "v=" + encode(sign(sign(salted, "Server Key"), all))
}

// TestRevokedByOpenSSL: a client whose certificate openssl has put on its
// authority's list is sent away, and does not come back.
func TestRevokedByOpenSSL(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", "subjectAltName=IP:127.0.0.1")
	a.issue("one", "")
	a.issue("two", "")
	write(t, a.file("index"), "")
	write(t, a.file("number"), "01\n")
	write(t, a.file("ca.cnf"), "[ca]\ndefault_ca=d\n[d]\ndatabase="+a.file("index")+"\ncrlnumber="+a.file("number")+"\ndefault_md=sha256\ndefault_crl_days=1\n")
	ca := func(args ...string) {
		t.Helper()
		a.openssl(append([]string{"ca", "-config", a.file("ca.cnf"), "-cert", a.file("ca.pem"), "-keyfile", a.file("ca.key")}, args...)...)
	}
	ca("-gencrl", "-out", a.file("crl.pem"))
	g := harness.Start(t, "MQTT_TLS_LISTEN=127.0.0.1:0", "TLS_CERT_FILE="+a.file("server.pem"), "TLS_KEY_FILE="+a.file("server.key"),
		"TLS_CLIENT_CA_FILE="+a.file("ca.pem"), "TLS_CLIENT_CERT=required", "TLS_IDENTITY=cn", "TLS_CLIENT_CRL_FILE="+a.file("crl.pem"), "TLS_RELOAD_INTERVAL=0s")
	at := listener(t, g, "tls")
	args := func(name string, more ...string) []string {
		return append(mosquitto(at, "-V", "5", "--cafile", a.file("ca.pem"), "--cert", a.file(name+".pem"), "--key", a.file(name+".key")), more...)
	}
	one := mosquittoSub(t, g, "news", args("one", "-i", "one")...)
	publish := func(name, text string) error {
		_, err := run(tool(t, "mosquitto_pub"), args(name, "-q", "1", "-t", "news", "-m", text)...)
		return err
	}
	if err := publish("two", "before"); err != nil {
		t.Fatal(err)
	}
	one.says("before")
	ca("-revoke", a.file("two.pem"))
	ca("-gencrl", "-out", a.file("crl.pem"))
	g.Signal(t, syscall.SIGHUP)
	eventually(t, "the list is in force", func() bool { return publish("two", "after") != nil })
	for { // those that came before it was
		if err := publish("one", "end"); err != nil {
			t.Fatal(err)
		}
		if l := <-one.lines; l == "end" {
			break
		} else if l != "after" {
			t.Fatalf("mosquitto_sub says %q", l)
		}
	}
}
