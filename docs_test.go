package tablecloth

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// What the pages link to is there, and so are the headings.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s:]*)(?:#([^)\s]+))?\)`)
	n := 0
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(page.text, -1) {
			n++
			path := filepath.Join(filepath.Dir(page.path), m[1])
			if m[1] == "" {
				path = page.path
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %v", page.path, err)
				continue
			}
			if m[2] == "" || filepath.Ext(path) != ".md" {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(anchors(string(b)), m[2]) {
				t.Errorf("%s: %s has no heading %s", page.path, path, m[2])
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d links were found", n)
	}
}

type page struct{ path, text string }

// pages are README.md and all below docs.
func pages(t *testing.T) (all []page) {
	t.Helper()
	paths := []string{"README.md"}
	err := filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)\n```.*?\n```|`[^`\n]*`")
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{path, code.ReplaceAllString(string(b), "")})
	}
	return all
}

// anchors are the headings' names, as they are made on the web.
func anchors(text string) (all []string) {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for line := range strings.Lines(text) {
		if h, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			all = append(all, strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(h)), ""), " ", "-"))
		}
	}
	return all
}
