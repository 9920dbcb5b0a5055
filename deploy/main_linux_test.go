// Package deploy_test reads what lies here as its owners would, and runs what can
// be run on one machine.
package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin has the two programs of the image, static as there.
var bin string

func TestMain(m *testing.M) {
	status, err := withPrograms(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func withPrograms(f func() int) (int, error) {
	var err error
	if bin, err = os.MkdirTemp("", "tablecloth-deploy-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	// A user without rights runs them.
	if err := os.Chmod(bin, 0o755); err != nil {
		return 0, err
	}
	for name, pkg := range map[string]string{"tablecloth": "./cmd/tablecloth", "app": "./cmd/demo"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%w\n%s", err, out)
		}
	}
	return f(), nil
}
