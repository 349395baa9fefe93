package main

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/gateway"
)

var update = flag.Bool("update", false, "write the generated parts of README.md")

// TestEveryOption: a field of the options is set by a variable, or it is
// named here with the reason why not.
func TestEveryOption(t *testing.T) {
	withoutVariable := map[string]string{
		"Store":         "made from GATEWAY_STORE",
		"Backend":       "made from GATEWAY_BACKEND",
		"Version":       "a property of the build",
		"Listeners":     "made from MQTT_…_LISTEN",
		"Logger":        "made from LOG_…",
		"Authenticator": "made from AUTH_…",
		"Enhanced":      "made from AUTH_…",
		"Authorizer":    "made from AUTH_…",
		"Observer":      "made from EVENTS_…",
		"Forwarder":     "made from NATS_BRIDGE_…",
		"Tracer":        "made from OTEL_…",

		"Store.Subscriptions": "MQTT_MAX_SUBSCRIPTIONS sets it as well",
	}
	set := map[string]string{}
	for _, v := range variables(reflect.TypeFor[config]()) {
		if other := set[v.Option]; other != "" && v.Option != "" {
			t.Errorf("%s and %s both set %s", v.Name, other, v.Option)
		}
		set[v.Option] = v.Name
	}
	options := append(optionPaths(reflect.TypeFor[gateway.Options](), ""), optionPaths(reflect.TypeFor[memory.Options](), "Store.")...)
	for _, option := range options {
		if set[option] == "" && withoutVariable[option] == "" {
			t.Errorf("no variable sets %s", option)
		}
	}
}

func optionPaths(of reflect.Type, prefix string) []string {
	var all []string
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Type == reflect.TypeFor[gateway.Limits]() || f.Type == reflect.TypeFor[gateway.Timing]() {
			all = append(all, optionPaths(f.Type, f.Name+".")...)
			continue
		}
		all = append(all, prefix+f.Name)
	}
	return all
}

// TestVariables checks what the table and the messages rely on.
func TestVariables(t *testing.T) {
	seen := map[string]bool{}
	known := append([]string{"OTEL_"}, prefixes...) // the standard's, of which the SDK knows more
	for _, v := range variables(reflect.TypeFor[config]()) {
		if seen[v.Name] || !slices.ContainsFunc(known, func(p string) bool { return strings.HasPrefix(v.Name, p) }) {
			t.Errorf("%s: twice, or of no owner", v.Name)
		}
		seen[v.Name] = true
		if v.Doc == "" || !strings.HasSuffix(v.Doc, ".") || strings.Contains(v.Allowed(), " to  ") || v.Allowed() == " or more" {
			t.Errorf("%s: meaning %q, allowed %q", v.Name, v.Doc, v.Allowed())
		}
		if foreign.MatchString(v.Name) {
			t.Errorf("%s looks like a variable of somebody else", v.Name)
		}
	}
}

// TestOptions changes each variable that sets an option to something that is
// not its default, and looks whether the option follows.
func TestOptions(t *testing.T) {
	other := map[string]string{
		"GATEWAY_ID": "a", "MQTT_SERVER_REFERENCE": "b:1883", "MQTT_RESPONSE_INFORMATION": "r/",
		"MQTT_TCP_LISTEN": "127.0.0.1:1", "MQTT_WS_LISTEN": "127.0.0.1:2",
		"MQTT_TRUSTED_PROXIES": "10.0.0.0/8", "MQTT_PROXY_PROTOCOL_FROM": "10.0.0.9", "MQTT_TLS_LISTEN": "127.0.0.1:3", "MQTT_WSS_LISTEN": "127.0.0.1:4", "MQTT_UNIX_LISTEN": "sock",
		"TLS_CERT_FILE": "a.pem", "TLS_KEY_FILE": "b.pem", "TLS_CLIENT_CA_FILE": "c.pem", "TLS_CLIENT_CRL_FILE": "d.pem",
		"MQTT_INBOX_FULL": "drop_oldest", "MQTT_SHARED_STRATEGY": "sticky",
	}
	base, baseStore := optionsOf(t, nil)
	for _, v := range variables(reflect.TypeFor[config]()) {
		if v.Option == "" {
			continue
		}
		value := other[v.Name]
		switch {
		case value != "":
		case v.oneof != "":
			all := strings.Split(v.oneof, ",")
			value = all[0]
			if value == v.Default {
				value = all[1]
			}
		case v.Default == "true":
			value = "false"
		case v.Default == "false":
			value = "true"
		default:
			value = v.min
			if value == v.Default {
				value = v.max
			}
		}
		got, gotStore := optionsOf(t, []string{v.Name + "=" + value})
		if strings.HasPrefix(v.Option, "listener ") {
			if reflect.DeepEqual(got.Listeners, base.Listeners) {
				t.Errorf("%s does not change the listeners", v.Name)
			}
			continue
		}
		a, b, path := reflect.ValueOf(base), reflect.ValueOf(got), v.Option
		if field, ok := strings.CutPrefix(v.Option, "Store."); ok {
			a, b, path = reflect.ValueOf(baseStore), reflect.ValueOf(gotStore), field
		}
		if field, ok := strings.CutPrefix(v.Option, "TLS."); ok {
			a, b, path = tlsOf(t, nil), tlsOf(t, []string{v.Name + "=" + value}), field
		}
		for name := range strings.SplitSeq(path, ".") {
			a, b = a.FieldByName(name), b.FieldByName(name)
		}
		if reflect.DeepEqual(a.Interface(), b.Interface()) {
			t.Errorf("%s=%s does not change %s", v.Name, value, v.Option)
		}
	}
}

// tlsOf is what TLS is configured to be, whether a listener speaks it or not.
func tlsOf(t *testing.T, environ []string) reflect.Value {
	t.Helper()
	c, _, errs := loadConfig(environ)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return reflect.ValueOf(*c.tls())
}

func optionsOf(t *testing.T, environ []string) (gateway.Options, memory.Options) {
	t.Helper()
	c, _, errs := loadConfig(environ)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return c.options(), c.storeOptions()
}

// TestNothingMeansNothing: what is 0 in a variable is not the default of the
// option, which is 0 as well.
func TestNothingMeansNothing(t *testing.T) {
	o, s := optionsOf(t, []string{"MQTT_INBOX_MESSAGES=0", "MQTT_INBOX_BYTES=0", "MQTT_MAX_SUBSCRIPTIONS=0", "MQTT_RETAINED_MAX=0", "MQTT_RETAINED_BYTES=0", "GATEWAY_DRAIN=0s", "MQTT_MAX_KEEPALIVE=0s", "MQTT_SYS_INTERVAL=0s", "MQTT_TOPIC_ALIAS_MAXIMUM=0", "MQTT_TOPIC_ALIAS_OUT=0"})
	for name, v := range map[string]int64{
		"drain": int64(o.Timing.Drain), "keep-alive": int64(o.Limits.KeepAlive), "sys": int64(o.Timing.Sys),
		"aliases": int64(o.Limits.TopicAliases), "aliases out": int64(o.Limits.TopicAliasesOut),
		"inbox": int64(s.InboxMessages), "inbox bytes": s.InboxBytes, "subscriptions": int64(s.Subscriptions),
		"retained": int64(s.RetainedMessages), "retained bytes": s.RetainedBytes,
	} {
		if v >= 0 {
			t.Errorf("%s: %d, want a negative value", name, v)
		}
	}
}

// TestDefaults: the defaults in the tags are those of the gateway, which an
// embedding program gets. The gateway's are read where it keeps them.
func TestDefaults(t *testing.T) {
	inForce := func(o gateway.Options) reflect.Value {
		o.Store, o.Backend = memory.NewStore(memory.Options{}), memory.NewBus().Gateway()
		g, err := gateway.New(o)
		if err != nil {
			t.Fatal(err)
		}
		return reflect.ValueOf(g).Elem().FieldByName("opt")
	}
	o, _ := optionsOf(t, nil)
	got, want := inForce(o), inForce(gateway.Options{})
	for _, option := range optionPaths(reflect.TypeFor[gateway.Options](), "") {
		a, b := got, want
		for name := range strings.SplitSeq(option, ".") {
			a, b = a.FieldByName(name), b.FieldByName(name)
		}
		switch {
		case a.CanInt():
			if a.Int() != b.Int() {
				t.Errorf("%s: %d, the gateway's own default is %d", option, a.Int(), b.Int())
			}
		case a.CanUint():
			if a.Uint() != b.Uint() {
				t.Errorf("%s: %d, the gateway's own default is %d", option, a.Uint(), b.Uint())
			}
		case a.Kind() == reflect.String && option != "ID" && option != "Version":
			if a.String() != b.String() {
				t.Errorf("%s: %q, the gateway's own default is %q", option, a.String(), b.String())
			}
		case a.Kind() == reflect.Bool:
			if a.Bool() != b.Bool() {
				t.Errorf("%s: %t, the gateway's own default is %t", option, a.Bool(), b.Bool())
			}
		}
	}
}

// TestStoreDefaults does the same for the store.
func TestStoreDefaults(t *testing.T) {
	_, o := optionsOf(t, nil)
	options := func(o memory.Options) reflect.Value {
		return reflect.ValueOf(memory.NewStore(o)).Elem().FieldByName("state").Elem().FieldByName("options")
	}
	got, want := options(o), options(memory.Options{})
	for i := range got.NumField() {
		a, b := got.Field(i), want.Field(i)
		if a.CanInt() && a.Int() != b.Int() || a.CanUint() && a.Uint() != b.Uint() {
			t.Errorf("%s: %v, the store's own default is %v", got.Type().Field(i).Name, a, b)
		}
	}
}

// TestGatewayTakesBounds: the bounds in the tags are not wider than those of
// the gateway, whose message would come later and know less.
func TestGatewayTakesBounds(t *testing.T) {
	for _, v := range variables(reflect.TypeFor[config]()) {
		for _, bound := range []string{v.min, v.max} {
			if bound == "" {
				continue
			}
			c, settings, errs := loadConfig([]string{v.Name + "=" + bound})
			if len(errs) == 0 {
				errs = c.try(settings)
			}
			if len(errs) > 0 {
				t.Errorf("%s=%s: %v", v.Name, bound, errs)
			}
		}
	}
}

func TestCheckAnonymous(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		want    []string
	}{
		{"nothing configured", nil, nil},
		{"IPv6 loopback", []string{"MQTT_TCP_LISTEN=[::1]:1883"}, nil},
		{"localhost", []string{"MQTT_TCP_LISTEN=localhost:1883"}, nil},
		{"another address of the loopback", []string{"MQTT_TCP_LISTEN=127.9.9.9:1883"}, nil},
		{"every address", []string{"MQTT_TCP_LISTEN=:1883"},
			[]string{`MQTT_TCP_LISTEN = ":1883": not a loopback address, and anonymous clients are let in there only with AUTH_ANONYMOUS=true`}},
		{"every address, by number", []string{"MQTT_WS_LISTEN=0.0.0.0:8083"},
			[]string{`MQTT_WS_LISTEN = "0.0.0.0:8083": not a loopback address, and anonymous clients are let in there only with AUTH_ANONYMOUS=true`}},
		{"a name", []string{"MQTT_TCP_LISTEN=broker.example:1883"},
			[]string{`MQTT_TCP_LISTEN = "broker.example:1883": not a loopback address, and anonymous clients are let in there only with AUTH_ANONYMOUS=true`}},
		{"allowed", []string{"MQTT_TCP_LISTEN=:1883", "AUTH_ANONYMOUS=true"}, nil},
		{"switched off", []string{"MQTT_WS_LISTEN=off"}, nil},
		{"the admin address does not count", []string{"HTTP_LISTEN=:18083"}, nil},
		{"nobody", []string{"AUTH_ANONYMOUS=false"},
			[]string{`AUTH_ANONYMOUS = "false": nothing else lets clients in; allowed is true, loopback, or a source of users, as AUTH_PASSWORD_FILE`}},
		{"users instead", []string{"MQTT_TCP_LISTEN=:1883", "AUTH_PASSWORD_FILE=x"}, nil},
		{"users alone", []string{"AUTH_ANONYMOUS=false", "AUTH_PASSWORD_FILE=x"}, nil},
		{"chain without its file", []string{"AUTH_CHAIN=file"}, []string{`AUTH_CHAIN = "file": file needs AUTH_PASSWORD_FILE`}},
		{"chain twice", []string{"AUTH_CHAIN=file,file", "AUTH_PASSWORD_FILE=x"}, []string{`AUTH_CHAIN = "file,file": file is in it twice`}},
		{"chain of something else", []string{"AUTH_CHAIN=ldap"}, []string{`AUTH_CHAIN = "ldap": no source ldap; allowed is a list of ` + strings.Join(sourceNames(), ", ")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, errs := loadConfig(test.environ)
			if got := texts(errs); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestCheckDrivers(t *testing.T) {
	backends["far"] = driver[openBackend]{shared: true}
	stores["far"] = driver[openStore]{shared: true}
	t.Cleanup(func() { delete(backends, "far"); delete(stores, "far") })
	tests := []struct {
		backend, store string
		want           []string
	}{
		{"memory", "memory", nil},
		{"memory", "far", nil},
		{"far", "far", nil},
		{"far", "memory", []string{`GATEWAY_STORE = "memory": not with GATEWAY_BACKEND=far: sessions in the memory of one gateway could not follow their clients to another`}},
		{"kafka", "memory", []string{`GATEWAY_BACKEND = "kafka": not compiled into this build, which has far, memory, nats`}},
		{"kafka", "etcd", []string{
			`GATEWAY_BACKEND = "kafka": not compiled into this build, which has far, memory, nats`,
			`GATEWAY_STORE = "etcd": not compiled into this build, which has far, memory, redis`}},
	}
	for _, test := range tests {
		t.Run(test.backend+"+"+test.store, func(t *testing.T) {
			_, _, errs := loadConfig([]string{"GATEWAY_BACKEND=" + test.backend, "GATEWAY_STORE=" + test.store})
			if got := texts(errs); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestReachable(t *testing.T) {
	for in, want := range map[address]string{
		":18083": "127.0.0.1:18083", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", "10.1.2.3:1": "10.1.2.3:1", "[::1]:1": "[::1]:1", "localhost:1": "localhost:1",
	} {
		if got := in.reachable(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestTable keeps README.md and the variables the same; -update writes it.
func TestTable(t *testing.T) {
	const begin, end = "<!-- variables: written by go test ./cmd/gateway -update -->\n", "<!-- end of variables -->\n"
	const path = "../../README.md"
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(readme), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the lines %q and %q", path, begin, end)
	}
	var want strings.Builder
	writeTable(&want, variables(reflect.TypeFor[config]()))
	if table == want.String() {
		return
	}
	if !*update {
		t.Fatal("the table in README.md is not that of the code: run go test ./cmd/gateway -update")
	}
	if err := os.WriteFile(path, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTableCells(t *testing.T) {
	var b strings.Builder
	writeTable(&b, variables(reflect.TypeOf(struct {
		A string        `env:"AUTH_A" secret:"true" allowed:"a | b" doc:"Any *."`
		B time.Duration `env:"AUTH_B" envDefault:"1s" min:"0s" max:"1h" doc:"B."`
	}{})))
	want := "| Variable | Default | Allowed | Meaning |\n| --- | --- | --- | --- |\n" +
		"| `AUTH_A`, `AUTH_A_FILE` |  | a \\| b | Any \\*. |\n" +
		"| `AUTH_B` | `1s` | 0s to 1h | B. |\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
