package password

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table is the content of a password file: a line "user:hash" for each user,
// empty lines, and comments, which begin with #.
type Table struct {
	lines []line
	users map[string]int // line by user
	hash  []*Hash        // of the users, for decoys
	seed  maphash.Seed
}

type line struct {
	text string // as it was; or of the user
	user string // empty: none
	hash *Hash
}

// ParseTable reads a file. The error names every line that is wrong, and repeats
// no hash.
func ParseTable(content []byte) (*Table, error) {
	t := &Table{users: make(map[string]int), seed: maphash.MakeSeed()}
	var errs []error
	n := 0
	for text := range bytes.Lines(content) {
		n++
		l := line{text: strings.TrimRight(string(text), "\r\n")}
		if trimmed := strings.TrimSpace(l.text); trimmed != "" && trimmed[0] != '#' {
			if err := t.parseLine(&l); err != nil {
				errs = append(errs, fmt.Errorf("line %d: %w", n, err))
				continue
			}
		}
		t.lines = append(t.lines, l)
	}
	return t, errors.Join(errs...)
}

func (t *Table) parseLine(l *line) error {
	user, hash, ok := strings.Cut(l.text, ":")
	if !ok {
		return errors.New("not user:hash")
	}
	if err := ValidUser(user); err != nil {
		return err
	}
	if _, twice := t.users[user]; twice {
		return fmt.Errorf("user %q is in the file twice", user)
	}
	h, err := Parse(strings.TrimSpace(hash))
	if err != nil {
		return fmt.Errorf("user %q: %w", user, err)
	}
	l.user, l.hash = user, h
	t.users[user] = len(t.lines)
	t.hash = append(t.hash, h)
	return nil
}

// ValidUser checks a user name: MQTT allows almost anything, a line of a file
// does not.
func ValidUser(name string) error {
	switch {
	case name == "":
		return errors.New("the user name is empty")
	case len(name) > 65_535:
		return errors.New("the user name has more than 65535 bytes")
	case strings.HasPrefix(name, "#"):
		return fmt.Errorf("user name %q: begins with #", name)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r == ':' || unicode.IsControl(r) }):
		return fmt.Errorf("user name %q: a colon, a control character, or not UTF-8", name)
	}
	return nil
}

// Lookup returns the hash of a user's password, nil if there is no such user.
func (t *Table) Lookup(user string) *Hash {
	if i, ok := t.users[user]; ok {
		return t.lines[i].hash
	}
	return nil
}

// Decoy is the hash to verify the password of an unknown user against, so that
// it costs what that of a known one does. The same user gets the same one.
func (t *Table) Decoy(user string) *Hash {
	if len(t.hash) == 0 {
		return nil
	}
	return t.hash[maphash.String(t.seed, user)%uint64(len(t.hash))]
}

// Users in the order of the file.
func (t *Table) Users() []string {
	names := make([]string, 0, len(t.users))
	for _, l := range t.lines {
		if l.user != "" {
			names = append(names, l.user)
		}
	}
	return names
}

// Set adds a user, or gives one another hash, which stays in its place.
func (t *Table) Set(user, hash string) error {
	if err := ValidUser(user); err != nil {
		return err
	}
	h, err := Parse(hash)
	if err != nil {
		return err
	}
	l := line{text: user + ":" + hash, user: user, hash: h}
	if i, ok := t.users[user]; ok {
		t.lines[i] = l
	} else {
		t.users[user] = len(t.lines)
		t.lines = append(t.lines, l)
	}
	return nil
}

// Delete removes a user and reports whether there was one.
func (t *Table) Delete(user string) bool {
	i, ok := t.users[user]
	if !ok {
		return false
	}
	t.lines = slices.Delete(t.lines, i, i+1)
	delete(t.users, user)
	for name, at := range t.users {
		if at > i {
			t.users[name] = at - 1
		}
	}
	return true
}

// Bytes is the file, with its comments.
func (t *Table) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range t.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}
