package main

import (
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestReadList(t *testing.T) {
	tests := []struct {
		name, in, err string
		want          []statement
	}{
		{"columns", "# note\nid\tbinds\tstatement\twhy\nMQTT-1.5.3-1\tboth\tUTF-8\nMQTT-3-8.3-4\tclient\tQoS\tnot ours\n", "",
			[]statement{{key{"5.0", "MQTT-1.5.3-1"}, "both", "UTF-8", ""}, {key{"5.0", "MQTT-3-8.3-4"}, "client", "QoS", "not ours"}}},
		{"few columns", "MQTT-1.5.3-1\tboth\n", "line 1: want 3 or 4 columns", nil},
		{"no identifier", "MQTT-1.5-1\tboth\tx\n", `line 1: "MQTT-1.5-1" is no identifier`, nil},
		{"twice", "MQTT-1.5.3-1\tboth\tx\nMQTT-1.5.3-1\tboth\tx\n", "line 2: MQTT-1.5.3-1 is there twice", nil},
		{"binds nobody", "MQTT-1.5.3-1\tme\tx\n", `line 1: "me" binds nobody`, nil},
		{"no words", "MQTT-1.5.3-1\tboth\t\t\n", "line 1: no words", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readList("5.0", strings.NewReader(tt.in))
			if text := errText(err); text != tt.err {
				t.Fatalf("error %q, want %q", text, tt.err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestReadEvents(t *testing.T) {
	const in = `{"Action":"run","Package":"m/p","Test":"TestA"}
{"Action":"attr","Package":"m/p","Test":"TestA/sub","Key":"covers","Value":"5.0 MQTT-1.5.4-1"}
{"Action":"attr","Package":"m/p","Test":"TestA/sub","Key":"other","Value":"5.0 MQTT-1.5.4-2"}
{"Action":"output","Package":"m/p","Test":"TestA/sub","Output":"why\n"}
{"Action":"fail","Package":"m/p","Test":"TestA/sub"}
{"Action":"output","Package":"m/p","Test":"TestB","Output":"fine\n"}
{"Action":"pass","Package":"m/p","Test":"TestA"}
{"Action":"fail","Package":"m/p","Test":"TestC"}
{"Action":"fail","Package":"m/p"}
{"Action":"run","Package":"m/q","Test":"TestA"}
{"Action":"pass","Package":"m/q","Test":"TestA"}
`
	var out strings.Builder
	marks := map[string][]key{"/p TestA": {{"3.1.1", "MQTT-1.5.3-1"}}}
	results, err := readEvents(strings.NewReader(in), marks, &out)
	if err != nil {
		t.Fatal(err)
	}
	want := map[result]bool{
		{key{"5.0", "MQTT-1.5.4-1"}, "p.TestA/sub", "fail"}: true,
		{key{"3.1.1", "MQTT-1.5.3-1"}, "p.TestA", "pass"}:   true,
		{key{}, "p.TestA/sub", "fail"}:                      true,
		{key{}, "p.TestC", "fail"}:                          true,
	}
	for _, r := range results {
		if !want[r] {
			t.Errorf("unexpected %+v", r)
		}
		delete(want, r)
	}
	for r := range want {
		t.Errorf("missing %+v", r)
	}
	if out.String() != "why\n" {
		t.Errorf("output %q: only that of failed tests is wanted", out.String())
	}
	if _, err := readEvents(strings.NewReader("panic"), nil, io.Discard); err == nil {
		t.Error("no error for output that is not JSON")
	}
}

func TestMarksIn(t *testing.T) {
	const good = "package p\n\n// TestA is a test.\n//\n//covers: 5.0 MQTT-1.5.4-1 MQTT-1.5.4-2\n//covers: 3.1.1 MQTT-1.5.3-1\nfunc TestA(t *testing.T) {}\n\nfunc TestB(t *testing.T) {}\n"
	got, err := marksIn("a_test.go", good)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]key{"TestA": {{"5.0", "MQTT-1.5.4-1"}, {"5.0", "MQTT-1.5.4-2"}, {"3.1.1", "MQTT-1.5.3-1"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := marksIn("a_test.go", "package p\n\n//covers: 5.0 MQTT-1.5.4-1\nfunc check() {}\n"); err == nil {
		t.Error("a comment above a function that is no test is accepted")
	}
}

func TestTable(t *testing.T) {
	a, b := key{"5.0", "MQTT-1.5.4-1"}, key{"5.0", "MQTT-1.5.4-2"}
	tests := []struct {
		name    string
		reason  string // of statement b
		results []result
		ok      bool
		want    string
	}{
		{"all proven", "", []result{{a, "p.TestA", "pass"}, {b, "p.TestB", "pass"}}, true, "p.TestB"},
		{"reason", "not ours", []result{{a, "p.TestA", "pass"}}, true, "- not ours"},
		{"uncovered", "", []result{{a, "p.TestA", "pass"}}, false, "UNCOVERED"},
		{"skipped", "", []result{{a, "p.TestA", "pass"}, {b, "p.TestB", "skip"}}, false, "UNCOVERED"},
		{"failed", "", []result{{a, "p.TestA", "pass"}, {b, "p.TestA", "pass"}, {b, "p.TestB", "fail"}}, false, "FAILS p.TestB p.TestA"},
		{"died", "", []result{{a, "p.TestA", "pass"}, {b, "p.TestB", ""}}, false, "FAILS p.TestB"},
		{"test and reason", "not ours", []result{{a, "p.TestA", "pass"}, {b, "p.TestB", "pass"}}, false, "BOTH p.TestB"},
		{"unknown", "not ours", []result{{a, "p.TestA", "pass"}, {key{"5.0", "MQTT-9.9.9-9"}, "p.TestB", "pass"}}, false, "no such statement: 5.0 MQTT-9.9.9-9, in p.TestB"},
		{"failed without a name", "not ours", []result{{a, "p.TestA", "pass"}, {key{}, "./p", "fail"}}, false, "failed: ./p"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			list := []statement{{a, "both", "one", ""}, {b, "server", "two", tt.reason}}
			if ok := newTable(list, tt.results).print(&out, false); ok != tt.ok {
				t.Errorf("ok is %v", ok)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("no %q in:\n%s", tt.want, &out)
			}
		})
	}
}
