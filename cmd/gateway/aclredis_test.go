package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestACLRedis edits the rules in Redis and asks them.
func TestACLRedis(t *testing.T) {
	t.Parallel()
	environ := []string{"REDIS_URL=" + redisServer(t), "REDIS_KEY_PREFIX=test:", "AUTH_REDIS_ACL=true", "AUTH_REDIS_USERS=true"}
	file := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(file, []byte("topic read news\nuser  bob\ntopic   b/#\npattern c/%c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("user bob\ntopic allow x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if exit, _, stderr := outputOf("secret\n", environ, "passwd", "--redis", "--hash", "pbkdf2", "ann"); exit != exitOK {
		t.Fatal(stderr)
	}
	for _, tt := range []struct {
		args   []string
		exit   int
		answer string // of standard output, or the end of the one line of an error
	}{
		{[]string{"list"}, exitOK, ""},
		{[]string{"add", "--user", "ann", "topic", "read", "home/#"}, exitOK, ""},
		{[]string{"add", "--user", "ann", "topic read  home/#"}, exitOK, ""}, // is there
		{[]string{"add", "topic deny home/safe", "--user", "ann"}, exitOK, ""},
		{[]string{"add", "pattern", "write", "d/%c/#"}, exitOK, ""},
		{[]string{"add", "topic", "readwrite", "a topic"}, exitOK, ""},
		{[]string{"list"}, exitOK, "topic readwrite a topic\nuser ann\ntopic read home/#\ntopic deny home/safe\npattern write d/%c/#\n"},
		{[]string{"list", "--user", "ann"}, exitOK, "user ann\ntopic read home/#\ntopic deny home/safe\n"},
		{[]string{"test", "--user", "ann", "receive", "home/x"}, exitOK, "allowed: redis: redis, user ann: topic read home/#\n"},
		{[]string{"test", "--user", "ann", "receive", "home/safe"}, exitFailed, "denied: redis: redis, user ann: topic deny home/safe\n"},
		{[]string{"test", "--user", "eve", "publish", "d/c/1", "--client", "c"}, exitFailed, "denied: there is no user eve in AUTH_REDIS_USERS\n"},
		{[]string{"test", "publish", "d/c/1", "--client", "c"}, exitOK, "allowed: redis: redis: pattern write d/%c/#\n"},
		{[]string{"remove", "--user", "ann", "topic", "deny", "home/safe"}, exitOK, ""},
		{[]string{"remove", "--user", "ann", "topic", "deny", "home/safe"}, exitFailed, "there is no such rule: topic deny home/safe"},
		{[]string{"test", "--user", "ann", "receive", "home/safe"}, exitOK, "allowed: redis: redis, user ann: topic read home/#\n"},
		{[]string{"clear", "--user", "ann"}, exitOK, ""},
		{[]string{"clear", "--user", "ann"}, exitFailed, `there is no rule of user "ann"`},
		{[]string{"test", "--user", "ann", "receive", "home/safe"}, exitFailed, "denied: no rule speaks of it\n"},
		{[]string{"import", broken}, exitFailed, ""},
		{[]string{"import", file + ".not"}, exitFailed, ""},
		{[]string{"import", file}, exitOK, ""},
		{[]string{"list"}, exitOK, "topic read news\nuser bob\ntopic readwrite b/#\npattern readwrite c/%c\n"},
		{[]string{"add", "topic", "read", "a/#/b"}, exitUsage, ""},
		{[]string{"add", "topic read a\ntopic read b"}, exitUsage, ""},
		{[]string{"add", "user", "ann"}, exitUsage, ""},
		{[]string{"add"}, exitUsage, ""},
		{[]string{"add", "--user", "a:b", "topic", "x"}, exitUsage, ""},
		{[]string{"add", "--user", "ann", "pattern", "x"}, exitUsage, ""},
		{[]string{"add", "--client", "ann", "topic", "x"}, exitUsage, ""},
		{[]string{"import"}, exitUsage, ""}, {[]string{"import", "--user", "ann", file}, exitUsage, ""},
		{[]string{"clear"}, exitUsage, ""}, {[]string{"list", "x"}, exitUsage, ""}, {[]string{"grant"}, exitUsage, ""},
	} {
		exit, stdout, stderr := outputOf("", environ, append([]string{"acl"}, tt.args...)...)
		if exit != tt.exit {
			t.Fatalf("%q: exit %d, %s%s", tt.args, exit, stdout, stderr)
		}
		if stderr != "" && (strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, tt.answer)) || stderr == "" && stdout != tt.answer {
			t.Errorf("%q: %q, %q", tt.args, stdout, stderr)
		}
	}
	environ[0] = "REDIS_URL=redis://127.0.0.1:1"
	for _, args := range []string{"list", "add topic a", "test publish a"} {
		if exit, stdout, stderr := outputOf("", environ, append([]string{"acl"}, strings.Fields(args)...)...); exit != exitFailed || !strings.Contains(stdout+stderr, "refused") {
			t.Errorf("%s without Redis: exit %d, %q, %q", args, exit, stdout, stderr)
		}
	}
}

// TestACLToken asks what a token allows, which must be good.
func TestACLToken(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef0123456789abcdef"
	sign := func(claims string) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	good := sign(`{"sub":"ann","exp":99999999999,"pub":["a/+"],"subs":["a/#"]}`)
	environ := []string{"AUTH_JWT_SECRET=" + secret, "AUTH_JWT_PUBLISH_CLAIM=pub", "AUTH_JWT_SUBSCRIBE_CLAIM=subs"}
	for _, tt := range []struct {
		token, args string
		exit        int
		answer      string
	}{
		{good, "publish a/b", exitOK, "allowed: token: token: publish a/+\n"},
		{good, "publish b", exitFailed, "denied: no rule speaks of it\n"},
		{good, "receive a/b/c", exitOK, "allowed: token: token: subscribe a/#\n"},
		{good, "subscribe a/b/#", exitOK, "allowed: token: token: subscribe a/#\n"},
		{good + "x", "publish a/b", exitFailed, "denied: token is not signed by a known key\n"},
		{sign(`{"sub":"ann","exp":1,"pub":["a/+"]}`), "publish a/b", exitFailed, "denied: token has expired\n"},
		{"", "publish a/b", exitFailed, "denied: this is no token\n"},
		{"secret", "publish a/b", exitFailed, "denied: this is no token\n"},
	} {
		exit, stdout, stderr := outputOf(tt.token+"\n", environ, append([]string{"acl", "test", "--token", "-"}, strings.Fields(tt.args)...)...)
		if exit != tt.exit || stdout != tt.answer {
			t.Errorf("%s: exit %d, %q, %q; want %q", tt.args, exit, stdout, stderr, tt.answer)
		}
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if exit, stdout, _ := output(environ, "acl", "test", "--token", file, "publish", "a/b"); exit != exitOK {
		t.Errorf("from a file: exit %d, %s", exit, stdout)
	}
	for _, args := range []string{"test --token x --user ann publish a", "test --token " + file + ".not publish a"} {
		if exit, _, stderr := output(environ, append([]string{"acl"}, strings.Fields(args)...)...); exit == exitOK || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", args, exit, stderr)
		}
	}
	if exit, _, stderr := output(nil, "acl", "test", "--token", file, "publish", "a"); exit != exitFailed || !strings.Contains(stderr, "AUTH_JWT_SECRET") {
		t.Errorf("without keys: exit %d, %q", exit, stderr)
	}
}
