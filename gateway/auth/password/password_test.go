package password

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkFile: every user of a file has the password, and no other.
func checkFile(t *testing.T, path, password string, users int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table, err := ParseTable(content)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(table.Users()); n != users {
		t.Errorf("%d users, want %d", n, users)
	}
	for _, u := range table.Users() {
		h := table.Lookup(u)
		if !h.Verify([]byte(password)) {
			t.Errorf("%s (%v): the password is refused", u, h)
		}
		for _, wrong := range []string{password[:len(password)-1], strings.Repeat("x", MaxLength+1)} {
			if h.Verify([]byte(wrong)) {
				t.Errorf("%s (%v): %q is taken", u, h, wrong)
			}
		}
	}
}

// TestAmqtt: files of amqtt can be used as they are.
func TestAmqtt(t *testing.T) {
	t.Parallel()
	checkFile(t, "testdata/amqtt.txt", "amqtt secret", 5)
}

// TestMosquitto: files of mosquitto_passwd can be used as they are.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "passwords")
	for i, args := range [][]string{{"-c"}, {"-H", "sha512"}, {"-H", "sha512-pbkdf2"}} {
		args = append(args, "-b", file, fmt.Sprint("user", i), "mosquitto secret")
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	checkFile(t, file, "mosquitto secret", 3)
}

// TestMade: what is made here is verified here, has the scheme that was asked
// for, and never the same salt.
func TestMade(t *testing.T) {
	t.Parallel()
	for _, s := range Schemes {
		one, err := Make(s, []byte("secret"))
		two, err2 := Make(s, []byte("secret"))
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		h, err := Parse(one)
		if err != nil {
			t.Fatalf("%s: %v", one, err)
		}
		if h.Scheme() != s || one == two || !h.Verify([]byte("secret")) || h.Verify([]byte("Secret")) {
			t.Errorf("%s: %s, %s", s, one, two)
		}
		if shown := fmt.Sprintf("%v %+v %#v", h, h, h); strings.ContainsAny(shown, "$:{") {
			t.Errorf("it prints as %s", shown)
		}
	}
	for _, tt := range []struct {
		s        Scheme
		password string
	}{
		{Argon2id, ""}, {Argon2id, strings.Repeat("x", MaxLength+1)}, {Bcrypt, strings.Repeat("x", 73)}, {SCRAM, "ü"}, {SHA512, "x"}, {"md5", "x"},
	} {
		if h, err := Make(tt.s, []byte(tt.password)); err == nil {
			t.Errorf("%s of a password of %d bytes: %s", tt.s, len(tt.password), h)
		}
	}
}

// TestSame: only a hash that was not made anew is the same.
func TestSame(t *testing.T) {
	t.Parallel()
	const one, other = "c2FsdHNhbHRzYWx0c2FsdA", "c2FsdHNhbHRzYWx0c2FsdB"
	var all []*Hash
	for _, text := range []string{
		sample, strings.Replace(sample, "hlF", "hlG", 1),
		"$7$101$" + one + "==$" + one + "==", "$7$102$" + one + "==$" + one + "==", "$7$101$" + one + "==$" + strings.ToUpper(one) + "==",
		"$argon2id$v=19$m=1024,t=1,p=1$" + one + "$" + one, "$argon2i$v=19$m=1024,t=1,p=1$" + one + "$" + one,
		"$argon2id$v=19$m=1024,t=1,p=1$" + strings.ToLower(other) + "$" + one,
	} {
		h, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if again, _ := Parse(text); !h.Same(again) {
			t.Errorf("%s is not the same as itself", text)
		}
		all = append(all, h)
	}
	var none *Hash
	for i, a := range all {
		for j, b := range all {
			if i != j && a.Same(b) {
				t.Errorf("%v is the same as another %v", a, b)
			}
		}
		if a.Same(none) || none.Same(a) {
			t.Errorf("%v is the same as none", a)
		}
	}
}

// TestParseRefuses: what is no hash, or would cost too much, is refused, and the
// error does not repeat it.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const key = "c2FsdHNhbHRzYWx0c2FsdA"
	for _, text := range []string{
		"", "plainsecret", "$", "$$$", "$5$salt$" + key, "$1$salt$" + key, "$y$j9T$" + key + "$" + key,
		"$argon2d$v=19$m=1024,t=1,p=1$" + key + "$" + key,
		"$argon2id$v=16$m=1024,t=1,p=1$" + key + "$" + key,
		"$argon2id$v=19$m=1024,t=1,p=0$" + key + "$" + key,
		"$argon2id$v=19$m=1024,t=0,p=1$" + key + "$" + key,
		"$argon2id$v=19$m=4194304,t=1,p=1$" + key + "$" + key,
		"$argon2id$v=19$m=1024,t=100000,p=1$" + key + "$" + key,
		"$argon2id$v=19$m=x,t=1,p=1$" + key + "$" + key,
		"$argon2id$v=19$m=1024,t=1,p=1$!$" + key,
		"$argon2id$v=19$m=1024,t=1,p=1$" + key + "$",
		"$argon2id$v=19$m=1024,t=1,p=1$" + key + "$c2FsdA",
		"$2b$31$hlF6fh4FPb3N2WincqmruuQ.5UwfbQl6/CKBCMAlZZWRoXYI9vxc2",
		"$2b$05$hlF6fh4FPb3N2Winc",
		"$7$0$" + key + "==$" + key + "==", "$7$99999999$" + key + "==$" + key + "==", "$7$x$" + key + "==$" + key + "==", "$7$101$" + key,
		"$6$salt$short", "$6$rounds=x$salt$" + strings.Repeat("a", 86), "$6$rounds=999999999$salt$" + strings.Repeat("a", 86), "$6$$==",
		"SCRAM-SHA-256$", "SCRAM-SHA-256$1:" + key + "==$" + key + ":" + key, "SCRAM-SHA-256$4096:c2FsdA==$c2FsdA==:c2FsdA==",
	} {
		h, err := Parse(text)
		if err == nil {
			t.Errorf("%q is taken for %v", text, h)
		} else if text != "" && (strings.Contains(err.Error(), text) && text != "$" || strings.Contains(err.Error(), key)) {
			t.Errorf("the error repeats the hash: %v", err)
		}
	}
}
