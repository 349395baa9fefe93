package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

// outputOf runs a command with something on its standard input.
func outputOf(stdin string, environ []string, args ...string) (exit int, stdout, stderr string) {
	var out, errs strings.Builder
	exit = run(process{args: args, environ: environ, stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs})
	return exit, out.String(), errs.String()
}

// TestPasswd goes through the life of a file.
func TestPasswd(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	users := func() *password.Table {
		t.Helper()
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		table, err := password.ParseTable(content)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	steps := []struct {
		name, stdin string
		args        []string
		exit        int
		stdout, err string // what they contain
	}{
		{"not there", "one\n", []string{file, "ann"}, 1, "", "--create makes it"},
		{"create", "one\n", []string{"--create", file, "ann"}, 0, "", ""},
		{"create again", "two\n", []string{file, "bob", "-c"}, 1, "", "is there already"},
		{"another", "two", []string{file, "bob", "--hash", "bcrypt"}, 0, "", ""},
		{"change", "three\r\n", []string{"-H", "pbkdf2", file, "ann"}, 0, "", ""},
		{"list", "", []string{"--list", file}, 0, "ann\tpbkdf2\nbob\tbcrypt\n", ""},
		{"batch", "cid:a:b\n\ndan:four\n", []string{"--batch", file, "--hash=scram-sha-256"}, 0, "", ""},
		{"half a batch", "eve:five\nfred\n", []string{"--batch", file}, 1, "", "line 2: not user:password"},
		{"delete", "", []string{"--delete", file, "bob"}, 0, "", ""},
		{"delete again", "", []string{"-D", file, "bob"}, 1, "", `there is no user "bob"`},
		{"no password", "", []string{file, "gus"}, 1, "", "no password on standard input"},
		{"empty password", "\n", []string{file, "gus"}, 1, "", "the password is empty"},
		{"no name", "x\n", []string{file, "a:b"}, 1, "", "a colon"},
		{"password as an argument", "", []string{file, "gus", "hunter2"}, 2, "", "where others can read them"},
		{"no user", "x", []string{file}, 2, "", "1 arguments, 2 needed"},
		{"no hash", "x", []string{file, "gus", "--hash", "md5"}, 2, "", "allowed is one of [argon2id bcrypt pbkdf2 scram-sha-256]"},
		{"two things", "x", []string{file, "--list", "--batch"}, 2, "", "at a time"},
		{"unknown flag", "x", []string{file, "--x"}, 2, "", "-x"},
		{"print", "six\n", []string{"--print"}, 0, "$argon2id$v=19$", ""},
		{"help", "", []string{"--help"}, 0, "Usage: gateway passwd", ""},
		{"last list", "", []string{file, "--list"}, 0, "ann\tpbkdf2\ncid\tscram-sha-256\ndan\tscram-sha-256\n", ""},
	}
	for _, s := range steps {
		exit, stdout, stderr := outputOf(s.stdin, nil, append([]string{"passwd"}, s.args...)...)
		if exit != s.exit || !strings.Contains(stdout, s.stdout) || !strings.Contains(stderr, s.err) || (s.err == "") != (stderr == "") {
			t.Fatalf("%s: exit %d, %q, %q", s.name, exit, stdout, stderr)
		}
		if strings.Contains(stderr, "hunter2") {
			t.Errorf("%s: the password is repeated: %q", s.name, stderr)
		}
	}
	for user, pass := range map[string]string{"ann": "three", "cid": "a:b", "dan": "four"} {
		if h := users().Lookup(user); h == nil || !h.Verify([]byte(pass)) {
			t.Errorf("%s has another password", user)
		}
	}
	stat, err := os.Stat(file)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}
	// Nothing is left of what replaced it.
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestPasswdKeeps: a file of somebody else's, behind a link, keeps its comments,
// its permissions and its place.
func TestPasswdKeeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	const old = "# staff\nold:$7$101$T/By+MRfvijUDl6e$iZd4LBtsziD4H637KofiCN88hnDsa30QtrHlUQbRgAOGNicT3FfK1K0hmLolJGNg3eNXSEfKS3vSJcdWwcM8zQ==\n"
	if err := os.WriteFile(file, []byte(old), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if exit, _, stderr := outputOf("secret\n", nil, "passwd", link, "new"); exit != 0 {
		t.Fatal(stderr)
	}
	content, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(content), old+"new:$argon2id$") {
		t.Errorf("%q, %v", content, err)
	}
	stat, err := os.Lstat(file)
	if err != nil || stat.Mode() != 0o640 {
		t.Errorf("%v, %v", stat, err)
	}
	if stat, err := os.Lstat(link); err != nil || stat.Mode().IsRegular() {
		t.Errorf("the link was replaced: %v, %v", stat, err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("ann:plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if exit, _, stderr := outputOf("x\n", nil, "passwd", broken, "bob"); exit != 1 || !strings.Contains(stderr, `line 1: user "ann": not a hash`) {
		t.Errorf("exit %d, %q", exit, stderr)
	}
	if content, _ := os.ReadFile(broken); string(content) != "ann:plain\n" {
		t.Errorf("a file that could not be read is changed: %q", content)
	}
}

// TestPasswdMosquitto: mosquitto_passwd goes on with a file that was begun here.
func TestPasswdMosquitto(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	if exit, _, stderr := outputOf("one\n", nil, "passwd", "--create", "--hash", "pbkdf2", file, "ann"); exit != 0 {
		t.Fatal(stderr)
	}
	if out, err := exec.Command(tool, "-b", file, "bob", "two").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	exit, stdout, stderr := outputOf("", nil, "passwd", "--list", file)
	if got := strings.Fields(stdout); exit != 0 || !slices.Equal(got, []string{"ann", "pbkdf2", "bob", "pbkdf2"}) {
		t.Errorf("%q, %q", got, stderr)
	}
}
