package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/cmd/internal/page"
)

var updatePages = flag.Bool("update-pages", false, "write the commands' pages anew")

const pages = "../../docs/commands"

// docs/commands says what the commands' own help says.
func TestCommandPages(t *testing.T) {
	root := newRootCommand()
	want := map[string]string{"README.md": index()}
	for _, cmd := range page.Pages(root) {
		name := page.Name(cmd) + ".md"
		there, _ := os.ReadFile(filepath.Join(pages, name))
		want[name] = page.Generate(cmd, page.ByHand(string(there)))
	}
	files, err := os.ReadDir(pages)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := want[f.Name()]; !ok {
			t.Errorf("%s is the page of no command", f.Name())
		}
	}
	var stale []string
	for name, text := range want {
		path := filepath.Join(pages, name)
		if *updatePages {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if there, err := os.ReadFile(path); err != nil || string(there) != text {
			stale = append(stale, name)
		}
	}
	slices.Sort(stale)
	if stale != nil {
		t.Errorf("not what the commands say: %v\nto be written anew by: go test ./cmd/tablecloth -run TestCommandPages -update-pages", stale)
	}
}

func index() string {
	var b strings.Builder
	b.WriteString("# Commands\n\nEach page is made from the command's own help, and installed as a man page.\n\n| | |\n| --- | --- |\n")
	for _, cmd := range page.Pages(newRootCommand()) {
		fmt.Fprintf(&b, "| [%s](%s.md) | %s |\n", cmd.CommandPath(), page.Name(cmd), cmd.Short)
	}
	return b.String()
}
