package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// NewBed builds what the systems need, in dir. It must be run where
// the go command finds this module.
func NewBed(dir string) (*Bed, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &Bed{Self: self, Dir: dir, Tablecloth: filepath.Join(dir, "tablecloth")}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tablecloth-go/tablecloth").Output()
	if err != nil {
		return nil, fmt.Errorf("find the tablecloth module (run this in bench/): %w", err)
	}
	// With the versions of its own go.mod.
	out, err := exec.Command("go", "-C", strings.TrimSpace(string(root)), "build", "-o", b.Tablecloth, "./cmd/tablecloth").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("build the tablecloth command: %w\n%s", err, out)
	}
	return b, nil
}

// installNode gets what the Node program needs.
func (b *Bed) installNode() error {
	dir := filepath.Join(b.Dir, "node")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := assets.ReadFile("assets/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %.200s", err, out)
	}
	b.NodeDir = dir
	return nil
}
