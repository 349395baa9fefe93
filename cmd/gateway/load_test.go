package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample has one field of each kind that load knows.
type sample struct {
	Secret string        `env:"NATS_URL" envDefault:"nats://127.0.0.1" allowed:"URL" secret:"true"`
	Mode   string        `env:"GATEWAY_MODE" envDefault:"fast" oneof:"fast,safe"`
	Count  int           `env:"MQTT_COUNT" envDefault:"5" min:"1" max:"10"`
	Many   int           `env:"MQTT_MANY" envDefault:"5" min:"1"`
	Bytes  size          `env:"MQTT_BYTES" envDefault:"1KiB" min:"16" max:"1MiB"`
	Wait   time.Duration `env:"MQTT_WAIT" envDefault:"10s" min:"10ms" max:"1m"`
	Expiry seconds       `env:"MQTT_EXPIRY" envDefault:"1h" min:"0s" max:"24h"`
	Listen address       `env:"MQTT_LISTEN" envDefault:"127.0.0.1:1883" allowed:"host:port, off"`
	Paths  list          `env:"MQTT_PATHS" envDefault:"/mqtt" allowed:"paths"`
	Flag   bool          `env:"MQTT_FLAG" envDefault:"true"`
}

var sampleDefaults = sample{"nats://127.0.0.1", "fast", 5, 5, 1024, 10 * time.Second, 3600, "127.0.0.1:1883", list{"/mqtt"}, true}

func TestLoad(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		change  func(*sample)
		errs    []string
	}{
		{name: "nothing set"},
		{name: "empty is the default", environ: []string{"MQTT_COUNT=", "MQTT_PATHS=", "MQTT_FLAG=", "NATS_URL_FILE="}},
		{name: "everything set",
			environ: []string{"NATS_URL=nats://b", "GATEWAY_MODE=safe", "MQTT_COUNT=10", "MQTT_MANY=1000000", "MQTT_BYTES=16", "MQTT_WAIT=1m",
				"MQTT_EXPIRY=0s", "MQTT_LISTEN=off", "MQTT_PATHS=/a, /b,", "MQTT_FLAG=false"},
			change: func(s *sample) {
				*s = sample{"nats://b", "safe", 10, 1000000, 16, time.Minute, 0, "off", list{"/a", "/b"}, false}
			}},
		{name: "value with = and spaces", environ: []string{"NATS_URL=a=b c"}, change: func(s *sample) { s.Secret = "a=b c" }},
		{name: "no variable in a value is expanded", environ: []string{"NATS_URL=$HOME"}, change: func(s *sample) { s.Secret = "$HOME" }},
		{name: "size in MiB", environ: []string{"MQTT_BYTES=1MiB"}, change: func(s *sample) { s.Bytes = 1 << 20 }},
		{name: "size in KB", environ: []string{"MQTT_BYTES=2 KB"}, change: func(s *sample) { s.Bytes = 2000 }},
		{name: "every address", environ: []string{"MQTT_LISTEN=:1883"}, change: func(s *sample) { s.Listen = ":1883" }},
		{name: "IPv6", environ: []string{"MQTT_LISTEN=[::1]:0"}, change: func(s *sample) { s.Listen = "[::1]:0" }},

		{name: "not one of", environ: []string{"GATEWAY_MODE=slow"}, errs: []string{`GATEWAY_MODE = "slow": allowed is fast, safe`}},
		{name: "case counts", environ: []string{"GATEWAY_MODE=Safe"}, errs: []string{`GATEWAY_MODE = "Safe": allowed is fast, safe`}},
		{name: "below", environ: []string{"MQTT_COUNT=0"}, errs: []string{`MQTT_COUNT = "0": allowed is 1 to 10`}},
		{name: "above", environ: []string{"MQTT_COUNT=11"}, errs: []string{`MQTT_COUNT = "11": allowed is 1 to 10`}},
		{name: "no number", environ: []string{"MQTT_COUNT=ten"}, errs: []string{`MQTT_COUNT = "ten": allowed is 1 to 10`}},
		{name: "beyond an int", environ: []string{"MQTT_MANY=99999999999999999999"}, errs: []string{`MQTT_MANY = "99999999999999999999": allowed is 1 or more`}},
		{name: "size below", environ: []string{"MQTT_BYTES=15"}, errs: []string{`MQTT_BYTES = "15": allowed is 16 to 1MiB`}},
		{name: "size of unknown unit", environ: []string{"MQTT_BYTES=1TiB"}, errs: []string{`MQTT_BYTES = "1TiB": allowed is 16 to 1MiB`}},
		{name: "size that overflows", environ: []string{"MQTT_BYTES=9223372036854775807KiB"}, errs: []string{`MQTT_BYTES = "9223372036854775807KiB": allowed is 16 to 1MiB`}},
		{name: "size with a sign", environ: []string{"MQTT_BYTES=-1"}, errs: []string{`MQTT_BYTES = "-1": allowed is 16 to 1MiB`}},
		{name: "duration without unit", environ: []string{"MQTT_WAIT=10"}, errs: []string{`MQTT_WAIT = "10": allowed is 10ms to 1m`}},
		{name: "duration below", environ: []string{"MQTT_WAIT=-1s"}, errs: []string{`MQTT_WAIT = "-1s": allowed is 10ms to 1m`}},
		{name: "part of a second", environ: []string{"MQTT_EXPIRY=1500ms"}, errs: []string{`MQTT_EXPIRY = "1500ms": allowed is 0s to 24h`}},
		{name: "no port", environ: []string{"MQTT_LISTEN=127.0.0.1"}, errs: []string{`MQTT_LISTEN = "127.0.0.1": allowed is host:port, off`}},
		{name: "port too high", environ: []string{"MQTT_LISTEN=:65536"}, errs: []string{`MQTT_LISTEN = ":65536": allowed is host:port, off`}},
		{name: "empty list", environ: []string{"MQTT_PATHS=,"}, errs: []string{`MQTT_PATHS = ",": allowed is paths`}},
		{name: "no boolean", environ: []string{"MQTT_FLAG=perhaps"}, errs: []string{`MQTT_FLAG = "perhaps": allowed is true, false`}},
		{name: "value of several lines", environ: []string{"GATEWAY_MODE=a\nb"}, errs: []string{`GATEWAY_MODE = "a\nb": allowed is fast, safe`}},
		{name: "all at once", environ: []string{"MQTT_FLAG=perhaps", "MQTT_COUNT=0", "MQTT_WAIT=x"}, errs: []string{
			`MQTT_COUNT = "0": allowed is 1 to 10`, `MQTT_WAIT = "x": allowed is 10ms to 1m`, `MQTT_FLAG = "perhaps": allowed is true, false`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := sampleDefaults
			if test.change != nil {
				test.change(&want)
			}
			var got sample
			_, errs := load(test.environ, &got)
			if text := texts(errs); !slices.Equal(text, test.errs) {
				t.Fatalf("errors %q, want %q", text, test.errs)
			}
			if test.errs == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
	}
}

func texts(errs []error) []string {
	var all []string
	for _, err := range errs {
		all = append(all, err.Error())
	}
	return all
}

func TestLoadSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("nats://u:hunter2@h\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		environ []string
		value   string
		source  source
		errs    []string
	}{
		{"default", nil, "nats://127.0.0.1", fromDefault, nil},
		{"variable", []string{"NATS_URL=nats://u:hunter2@h"}, "nats://u:hunter2@h", fromEnvironment, nil},
		{"file, without the end of its line", []string{"NATS_URL_FILE=" + file}, "nats://u:hunter2@h", fromFile, nil},
		{"both", []string{"NATS_URL=nats://u:hunter2@h", "NATS_URL_FILE=" + file}, "nats://u:hunter2@h", fromEnvironment,
			[]string{`NATS_URL_FILE = "` + file + `": NATS_URL is set as well; allowed is one of the two`}},
		{"no file", []string{"NATS_URL_FILE=/nonexistent"}, "nats://127.0.0.1", fromDefault,
			[]string{`NATS_URL_FILE = "/nonexistent": open /nonexistent: no such file or directory`}},
		{"no twin of what is no secret", []string{"GATEWAY_MODE_FILE=" + file}, "nats://127.0.0.1", fromDefault, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got sample
			settings, errs := load(test.environ, &got)
			if text := texts(errs); !slices.Equal(text, test.errs) {
				t.Errorf("errors %q, want %q", text, test.errs)
			}
			if got.Secret != test.value || settings[0].Source != test.source {
				t.Errorf("%q from %s, want %q from %s", got.Secret, settings[0].Source, test.value, test.source)
			}
			if settings[0].Value != "***" {
				t.Errorf("shown as %q", settings[0].Value)
			}
		})
	}
}

// TestLoadMasksWrongSecrets: a secret does not get into an error either.
func TestLoadMasksWrongSecrets(t *testing.T) {
	var c struct {
		Key size `env:"TLS_KEY" envDefault:"1" min:"1" max:"2" secret:"true"`
	}
	_, errs := load([]string{"TLS_KEY=hunter2"}, &c)
	if len(errs) != 1 || strings.Contains(errs[0].Error(), "hunter2") || !strings.Contains(errs[0].Error(), "***") {
		t.Errorf("%q", errs)
	}
}

func TestFindUnknown(t *testing.T) {
	known := map[string]bool{"MQTT_TCP_LISTEN": true, "MQTT_MAX_QOS": true, "GATEWAY_ID": true, "LOG_LEVEL": true}
	tests := []struct {
		name string
		want []unknown
	}{
		{"MQTT_TCP_LISTEN=x", nil},
		{"MQTT_TCP_LISTN=x", []unknown{{"MQTT_TCP_LISTN", "MQTT_TCP_LISTEN"}}},
		{"MQTT_LISTEN=x", []unknown{{"MQTT_LISTEN", "MQTT_TCP_LISTEN"}}},
		{"MQTT_QOS_MAX=x", []unknown{{"MQTT_QOS_MAX", ""}}},
		{"LOG_LEVLE=x", []unknown{{"LOG_LEVLE", "LOG_LEVEL"}}},
		{"MQTT_SOMETHING_ELSE_ALTOGETHER=x", []unknown{{"MQTT_SOMETHING_ELSE_ALTOGETHER", ""}}},
		{"MQTT_TCP_LISTN=", nil},
		{"PATH=/bin", nil},
		{"HTTP_PROXY=http://proxy", nil},
		{"REDIS_SERVICE_HOST=10.0.0.1", nil},
		{"REDIS_SERVICE_PORT_MAIN=6379", nil},
		{"NATS_PORT=tcp://10.0.0.1:4222", nil},
		{"NATS_PORT_4222_TCP_ADDR=10.0.0.1", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := findUnknown([]string{test.name}, known); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "bc", 1}, {"kitten", "sitting", 3}} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("%q %q: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
