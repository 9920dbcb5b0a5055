package tablecloth

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

const module = "github.com/tablecloth-go/tablecloth/"

// Who may not import whom, not even through others. Names end in /... for a
// package and all below it.
var forbidden = []struct {
	from, to []string
}{
	// The keeper keeps any program, and the library works without a keeper.
	{[]string{"upgrader/keeper/..."}, []string{"upgrader", "server/...", "github.com/cloudflare/tableflip"}},
	{[]string{"upgrader", "server/..."}, []string{"upgrader/keeper/..."}},
	// Protocols know nothing of their users.
	{[]string{"upgrader/sd", "upgrader/control"}, []string{"upgrader", "server/...", "upgrader/keeper/...", "github.com/cloudflare/tableflip"}},
	{[]string{"upgrader/sd"}, []string{"log", "log/slog", "github.com/sirupsen/logrus"}},
	{[]string{"upgrader/..."}, []string{"server/..."}},
	{[]string{"internal/..."}, []string{"server/...", "upgrader", "upgrader/keeper/..."}},
	// What only commands need doesn't come with the library.
	{[]string{"upgrader/...", "server/...", "internal/..."}, []string{"cmd/...", "github.com/spf13/cobra", "github.com/prometheus/client_golang/...", "github.com/gdamore/tcell/v2/..."}},
	// Tests' own.
	{[]string{"upgrader/...", "server/..."}, []string{"testing", "internal/strict", "internal/testenv", "internal/proctest"}},
}

func TestImportArrows(t *testing.T) {
	pkgs := list(t)
	for _, rule := range forbidden {
		matched := false
		for name, deps := range pkgs {
			if !fits(name, rule.from) {
				continue
			}
			matched = true
			for _, dep := range deps {
				if fits(dep, rule.to) {
					t.Errorf("%s imports %s, directly or not", name, dep)
				}
			}
		}
		if !matched {
			t.Errorf("no package is any of %v: the rule is void", rule.from)
		}
	}
}

// Only one package may know tableflip, and it does.
func TestOneImporterOfTableflip(t *testing.T) {
	var importers []string
	for name, p := range listed(t) {
		if slices.Contains(p.Imports, "github.com/cloudflare/tableflip") {
			importers = append(importers, name)
		}
	}
	if want := []string{module + "upgrader"}; !slices.Equal(importers, want) {
		t.Errorf("tableflip is imported by %v, want %v", importers, want)
	}
}

func fits(name string, patterns []string) bool {
	for _, p := range patterns {
		if top, _, _ := strings.Cut(p, "/"); slices.Contains([]string{"upgrader", "server", "internal", "cmd"}, top) {
			p = module + p
		}
		if below, all := strings.CutSuffix(p, "/..."); name == p || all && (name == below || strings.HasPrefix(name, below+"/")) {
			return true
		}
	}
	return false
}

type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

// list returns the packages of this module, with all that they import.
func list(t *testing.T) map[string][]string {
	t.Helper()
	deps := map[string][]string{}
	for name, p := range listed(t) {
		deps[name] = p.Deps
	}
	return deps
}

func listed(t *testing.T) map[string]pkg {
	t.Helper()
	_, err := exec.LookPath("go")
	testenv.Need(t, "the go command", err == nil)
	cmd := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Imports,Deps", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}
