// Package examples_test runs the examples as their users would, with clients
// that count what they lose: through upgrades, and killed.
package examples_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin has the examples' programs, and tablecloth.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "tablecloth-examples-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(bin)
	// The command is built in its own module: what it needs isn't what examples need.
	for dir, pkg := range map[string]string{".": "./...", "..": "./cmd/tablecloth"} {
		cmd := exec.Command("go", "-C", dir, "build", "-o", bin+string(filepath.Separator), pkg)
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n%s", cmd, err, out)
			return 1
		}
	}
	return m.Run()
}
