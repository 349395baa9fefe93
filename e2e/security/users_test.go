package security_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// subscription is a running mosquitto_sub.
type subscription struct {
	t     *testing.T
	lines chan string
}

// mosquittoSub starts the command, and returns when it has subscribed to a topic.
func mosquittoSub(t *testing.T, g *harness.Gateway, topic string, args ...string) *subscription {
	t.Helper()
	before := g.Metric(t, "sluice_subscriptions")
	cmd := exec.Command(tool(t, "mosquitto_sub"), append(args, "-t", topic, "-q", "1")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	s := &subscription{t, make(chan string, 100)}
	go func() { // ends with the command
		defer close(s.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			s.lines <- scan.Text()
		}
	}()
	eventually(t, "mosquitto_sub has subscribed", func() bool { return g.Metric(t, "sluice_subscriptions") != before })
	return s
}

// says waits for the next line, which must be this.
func (s *subscription) says(want string) {
	s.t.Helper()
	select {
	case l := <-s.lines:
		if l != want {
			s.t.Fatalf("mosquitto_sub says %q, want %q", l, want)
		}
	case <-time.After(patience):
		s.t.Fatalf("mosquitto_sub does not say %q", want)
	}
}

// passwordFile is one as other programs and this one make it, with the password
// of each user.
func passwordFile(t *testing.T) (file string, users map[string]string) {
	t.Helper()
	const password = "correct horse"
	file, users = filepath.Join(t.TempDir(), "users"), map[string]string{}
	write(t, file, "")
	for user, args := range map[string][]string{"m-default": nil, "m-sha512": {"-H", "sha512"}, "m-pbkdf2": {"-H", "sha512-pbkdf2"}} {
		if out, err := run(tool(t, "mosquitto_passwd"), append(args, "-b", file, user, password)...); err != nil {
			t.Fatalf("mosquitto_passwd: %v\n%s", err, out)
		}
		users[user] = password
	}
	amqtt, err := os.ReadFile("../../gateway/auth/password/testdata/amqtt.txt")
	if err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// Behind the others: mosquitto_passwd drops all from the first comment on.
	write(t, file, string(made)+string(amqtt))
	for _, u := range []string{"argon2", "argon2i", "sha512-crypt", "rounds", "bcrypt"} {
		users[u] = "amqtt secret"
	}
	for _, scheme := range []string{"argon2id", "bcrypt", "pbkdf2", "scram-sha-256"} {
		if code, out := harness.RunInput(t, "s-"+scheme+":"+password+"\n", []string{"passwd", "--batch", "--hash", scheme, file}); code != 0 {
			t.Fatalf("gateway passwd: %s", out)
		}
		users["s-"+scheme] = password
	}
	return file, users
}

// TestMosquittoPasswords: the Mosquitto commands come in with the password of every
// kind of hash, and with no other, in MQTT 3 and 5.
func TestMosquittoPasswords(t *testing.T) {
	t.Parallel()
	file, users := passwordFile(t)
	g := harness.Start(t, "AUTH_PASSWORD_FILE="+file, "MQTT_CONNECT_TIMEOUT=60s")
	pub := tool(t, "mosquitto_pub")
	watch := wire.Dial(t, g.TCP)
	name, secret := "s-bcrypt", users["s-bcrypt"]
	watch.Connect(wire.Connect{Version: wire.V5, ClientID: "watch", Clean: true, Username: &name, Password: &secret})
	watch.Subscribe("from/#", 1)
	refused := func(what string, args ...string) {
		t.Helper()
		args = append(mosquitto(g.TCP, "-V", "5", "-q", "1", "-t", "from/nobody", "-m", "x"), args...)
		if out, err := run(pub, args...); err == nil || !strings.Contains(strings.ToLower(out), "bad user") {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	version := "311"
	for user, password := range users {
		args := mosquitto(g.TCP, "-V", version, "-q", "1", "-t", "from/"+user, "-m", version, "-u", user, "-P", password)
		if out, err := run(pub, args...); err != nil {
			t.Errorf("%s, MQTT %s: %v\n%s", user, version, err, out)
			continue
		}
		if m := watch.Receive(); m.Topic != "from/"+user || m.Payload != version {
			t.Errorf("%s, MQTT %s: got %+v", user, version, m)
		}
		if !strings.HasPrefix(user, "argon2") { // of those that are meant to cost much, one is enough
			refused(user+" with a wrong password", "-u", user, "-P", password+"x")
		}
		version = map[string]string{"311": "5", "5": "311"}[version]
	}
	refused("no password", "-u", "s-bcrypt")
	refused("nobody", "-u", "nobody", "-P", "correct horse")
	watch.Ping()
	watch.ExpectNothing()
}

// TestRulesInRedis: what gateway acl puts into Redis holds for the clients of every
// gateway, and a change for those that are connected.
func TestRulesInRedis(t *testing.T) {
	t.Parallel()
	env := []string{"AUTH_REDIS_USERS=true", "AUTH_REDIS_ACL=true", "AUTH_RELOAD_INTERVAL=100ms", "MQTT_SYS_INTERVAL=0s", "MQTT_CONNECT_TIMEOUT=60s"}
	c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 2, Env: env})
	edit := func(stdin string, args ...string) {
		t.Helper()
		if code, out := harness.RunInput(t, stdin, args, "REDIS_URL=redis://"+c.Redis.Address); code != 0 {
			t.Fatalf("gateway %s: %s", strings.Join(args, " "), out)
		}
	}
	edit("ann:ann\nbob:bob\n", "passwd", "--redis", "--batch", "--hash", "pbkdf2")
	edit("", "acl", "add", "--user", "ann", "topic", "readwrite", "home/#")
	edit("", "acl", "add", "pattern", "readwrite", "own/%u")
	args := func(g int, user string, more ...string) []string {
		return mosquitto(c.Gateways[g].TCP, append([]string{"-V", "5", "-u", user, "-P", user}, more...)...)
	}
	ann := mosquittoSub(t, c.Gateways[0], "home/light", args(0, "ann")...)
	publish := func(user, topic, text string) string {
		t.Helper()
		out, err := run(tool(t, "mosquitto_pub"), args(1, user, "-q", "1", "-t", topic, "-m", text)...)
		if err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
		return out
	}
	const refused = "Not authorized"
	if out := publish("bob", "home/light", "bob's"); !strings.Contains(out, refused) {
		t.Errorf("bob may publish: %s", out)
	}
	publish("ann", "home/light", "hers")
	ann.says("hers")
	publish("bob", "own/bob", "x")
	edit("", "acl", "add", "--user", "bob", "topic", "write", "home/#")
	eventually(t, "bob may publish", func() bool { return !strings.Contains(publish("bob", "home/light", "bob's"), refused) })
	ann.says("bob's")

	// Redis away: who is known goes on; nothing else is let in, or allowed.
	live := dial(t, c.Gateways[0], as("ann", "live"))
	live.Subscribe("home/#", 0)
	c.Redis.Kill(t)
	live.Send(wire.Publish{Topic: "home/still", Payload: "x"})
	if m := live.Receive(); m.Topic != "home/still" {
		t.Errorf("got %+v", m)
	}
	wire.Dial(t, c.Gateways[0].TCP).Refused(as("bob", "late"), 0x88)
	c.Redis.Start(t)

	edit("", "acl", "clear", "--user", "ann")
	eventually(t, "ann has lost her subscription", func() bool {
		live.Send(wire.Publish{Topic: "home/x", QoS: 1, ID: 1})
		for {
			if a, ok := live.Next().(wire.Ack); ok {
				return a.Code == 0x87
			}
		}
	})
}

// TestReloadSendsAway: a user who is taken out of the file is disconnected.
func TestReloadSendsAway(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	write(t, file, hashed(t, "ann")+hashed(t, "bob"))
	g := harness.Start(t, "AUTH_PASSWORD_FILE="+file, "AUTH_RELOAD_INTERVAL=0s")
	ann, bob := dial(t, g, as("ann", "a")), dial(t, g, as("bob", "b"))
	write(t, file, hashed(t, "bob"))
	g.Signal(t, syscall.SIGHUP)
	ann.ExpectDisconnect(0x87)
	bob.Ping()
	wire.Dial(t, g.TCP).Refused(as("ann", "a"), 0x86)
}
