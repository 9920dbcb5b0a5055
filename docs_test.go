package tablecloth

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that docs/guarantees.md names are there, in the packages it says.
func TestGuaranteesNameTests(t *testing.T) {
	text, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	group := regexp.MustCompile("((?:`Test\\w+`,? ?)+)\\(([\\w/]+)\\)")
	name := regexp.MustCompile(`Test\w+`)
	n := 0
	for _, m := range group.FindAllStringSubmatch(string(text), -1) {
		code := testCode(t, m[2])
		for _, test := range name.FindAllString(m[1], -1) {
			n++
			if !strings.Contains(code, "\nfunc "+test+"(t *testing.T)") {
				t.Errorf("%s has no %s", m[2], test)
			}
		}
	}
	if all := len(regexp.MustCompile("`Test\\w+`").FindAll(text, -1)); n != all || n == 0 {
		t.Errorf("%d tests are named, %d of them with a package", all, n)
	}
}

func testCode(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}
