package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestACL(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "acl")
	const rules = "topic read news/#\nuser ann\ntopic read a/#\ntopic deny a/secret\npattern write d/%c/#\n"
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"AUTH_ACL_FILE=" + file}
	for _, tt := range []struct {
		args   string
		exit   int
		answer string
	}{
		{"test --user ann receive a/b", 0, "allowed: " + file + ": line 3, user ann: topic read a/#\n"},
		{"test --user ann receive a/secret", 1, "denied: " + file + ": line 4, user ann: topic deny a/secret\n"},
		{"test --user ann publish a/b", 1, "denied: no rule speaks of it\n"},
		{"test publish d/c1/x --client c1", 0, "allowed: " + file + ": line 5: pattern write d/%c/#\n"},
		{"test --client # publish d/c1/x", 1, "denied: no rule speaks of it\n"},
		{"test subscribe news/today", 0, "allowed: " + file + ": line 1: topic read news/#\n"},
		{"test subscribe $share/g/news/+", 0, "allowed: " + file + ": line 1: topic read news/#\n"},
		{"test subscribe $share/g/#", 1, "denied: no rule speaks of it\n"},
		{"test publish $x", 1, "denied: clients do not publish to topics that begin with $ (MQTT_DOLLAR_PUBLISH; $SYS never)\n"},
		{"test publish a/+", 2, ""},
		{"test subscribe a/#/b", 2, ""},
		{"test read a", 2, ""},
		{"test publish", 2, ""},
		{"", 2, ""},
		{"check", 2, ""},
		{"test publish a --x", 2, ""},
	} {
		exit, stdout, stderr := output(environ, append([]string{"acl"}, strings.Fields(tt.args)...)...)
		if exit != tt.exit || stdout != tt.answer || (exit == exitUsage) != (strings.Count(stderr, "\n") == 1) {
			t.Errorf("%s: exit %d, %q, %q", tt.args, exit, stdout, stderr)
		}
	}
	if exit, stdout, _ := output(nil, "acl", "test", "publish", "a"); exit != 0 || !strings.Contains(stdout, "nothing is configured") {
		t.Errorf("without rules: exit %d, %q", exit, stdout)
	}
	if exit, stdout, _ := output(nil, "acl", "test", "publish", "a", "--file", file); exit != 1 || stdout != "denied: no rule speaks of it\n" {
		t.Errorf("--file: exit %d, %q", exit, stdout)
	}
	if exit, _, stderr := output([]string{"AUTH_ACL_FILE=" + file + ".not"}, "acl", "test", "publish", "a"); exit != 1 || !strings.Contains(stderr, "AUTH_ACL_FILE = ") {
		t.Errorf("no file: exit %d, %q", exit, stderr)
	}
	if exit, stdout, _ := output(nil, "acl", "-h"); exit != 0 || !strings.Contains(stdout, "gateway acl test") {
		t.Errorf("help: exit %d, %q", exit, stdout)
	}
}
