package house

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPage: docs/security.md has a row for each class of vulnerability and
// each attack of its numbering, and every test that it names is there.
func TestSecurityPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	var sources bytes.Buffer
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || path != root && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sources.Write(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	text := sources.String()
	for kind, numbers := range map[string][2]int{"V": {1, 20}, "F": {34, 50}} {
		for n := numbers[0]; n <= numbers[1]; n++ {
			row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %s%d \|.*$`, kind, n)).FindString(string(page))
			names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(row, -1)
			if len(names) == 0 {
				t.Errorf("%s%d has no row with a test", kind, n)
			}
			for _, name := range names {
				if !strings.Contains(text, "func "+name[1]+"(") {
					t.Errorf("%s%d: there is no %s", kind, n, name[1])
				}
			}
			named := regexp.MustCompile(fmt.Sprintf(`\b(Test)?%s%d(\b|[A-Z])`, kind, n))
			if n <= 47 && !named.MatchString(text) {
				t.Errorf("no test says %s%d", kind, n)
			}
		}
	}
}
