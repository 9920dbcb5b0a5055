package tablecloth

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// The Go programs that the documentation shows can be compiled.
func TestProgramsInDocumentation(t *testing.T) {
	_, err := exec.LookPath("go")
	testenv.Need(t, "the go command", err == nil)
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile("(?s)\n```go\n(package main\n.*?)```\n")
	dir, n := t.TempDir(), 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range program.FindAllSubmatch(text, -1) {
			n++
			file := filepath.Join(dir, fmt.Sprintf("%s.%d.go", filepath.Base(page), i+1))
			if err := os.WriteFile(file, m[1], 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("go", "vet", file).CombinedOutput(); err != nil {
				t.Errorf("program %d of %s: %v\n%s", i+1, page, err, out)
			}
			if out, err := exec.Command("gofmt", "-l", file).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("program %d of %s: not as gofmt has it (%v)", i+1, page, err)
			}
		}
	}
	if n == 0 {
		t.Error("no programs were found")
	}
}
