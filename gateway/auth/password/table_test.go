package password

import (
	"slices"
	"strings"
	"testing"
)

const sample = "$2b$05$hlF6fh4FPb3N2WincqmruuQ.5UwfbQl6/CKBCMAlZZWRoXYI9vxc2"

// TestTable edits a file: users change in their place, comments stay.
func TestTable(t *testing.T) {
	t.Parallel()
	table, err := ParseTable([]byte("# ours\r\n\nann:" + sample + "\n  # theirs\nbob:" + sample + "\ncid smith:" + sample))
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Users(); !slices.Equal(got, []string{"ann", "bob", "cid smith"}) {
		t.Errorf("users %q", got)
	}
	other := strings.Replace(sample, "$05$", "$06$", 1)
	if err := table.Set("bob", other); err != nil {
		t.Fatal(err)
	}
	if err := table.Set("dan", sample); err != nil {
		t.Fatal(err)
	}
	if !table.Delete("ann") || table.Delete("ann") || table.Delete("") {
		t.Error("Delete does not say what it did")
	}
	want := "# ours\n\n  # theirs\nbob:" + other + "\ncid smith:" + sample + "\ndan:" + sample + "\n"
	if got := string(table.Bytes()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	again, err := ParseTable(table.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"bob", "cid smith", "dan"} {
		if h := table.Lookup(u); h == nil || !h.Same(again.Lookup(u)) {
			t.Errorf("%s: %v", u, h)
		}
	}
	for _, u := range []string{"ann", "", "#", "Bob", "bob "} {
		if table.Lookup(u) != nil {
			t.Errorf("%q is known", u)
		}
	}
	for _, u := range []string{"", "a:b", "a\nb", "\xff", "#a", strings.Repeat("x", 65_536)} {
		if table.Set(u, sample) == nil {
			t.Errorf("%.10q is taken", u)
		}
	}
	if table.Set("eve", "plain") == nil {
		t.Error("a password that is not hashed is taken")
	}
}

// TestTableErrors: each wrong line is named, its hash is not repeated.
func TestTableErrors(t *testing.T) {
	t.Parallel()
	_, err := ParseTable([]byte("ann:" + sample + "\nno colon\nbob:secret\nann:" + sample + "\n:" + sample + "\n"))
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{"line 2: not user:hash", `line 3: user "bob": not a hash`, `line 4: user "ann" is in the file twice`, "line 5: the user name is empty"}
	if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestDecoy: an unknown user costs what some known one does, the same each time.
func TestDecoy(t *testing.T) {
	t.Parallel()
	table, err := ParseTable([]byte("ann:" + sample + "\nbob:" + strings.Replace(sample, "$05$", "$06$", 1)))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[*Hash]bool{}
	for i := range 100 {
		u := strings.Repeat("x", i)
		if h := table.Decoy(u); h == nil || h != table.Decoy(u) {
			t.Fatalf("decoy %v", h)
		}
		seen[table.Decoy(u)] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d of 2 hashes are decoys", len(seen))
	}
	if empty, _ := ParseTable(nil); empty.Decoy("x") != nil {
		t.Error("a decoy out of nothing")
	}
}
