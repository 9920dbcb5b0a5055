//go:build linux

package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// programs under test are built once, when they are first needed.
var programs struct {
	dir string
	mu  sync.Mutex
	all map[string]*program
}

type program struct {
	once sync.Once
	path string
	out  []byte
	err  error
}

const root = ".." // of the module

// build returns the path of a program, which `go build args` makes.
func build(t *testing.T, name string, args ...string) string {
	t.Helper()
	testenv.Need(t, "the go command", goCommand() == nil)
	programs.mu.Lock()
	if programs.all == nil {
		programs.all = map[string]*program{}
	}
	p := programs.all[name]
	if p == nil {
		p = &program{path: filepath.Join(programs.dir, name)}
		programs.all[name] = p
	}
	programs.mu.Unlock()
	p.once.Do(func() {
		all := []string{"build", "-o", p.path}
		if testenv.Race {
			all = append(all, "-race")
		}
		cmd := exec.Command("go", append(all, args...)...)
		cmd.Dir = root
		p.out, p.err = cmd.CombinedOutput()
	})
	if p.err != nil {
		t.Fatalf("go build %s: %v\n%s", strings.Join(args, " "), p.err, p.out)
	}
	return p.path
}

func goCommand() error {
	_, err := exec.LookPath("go")
	return err
}

func demo(t *testing.T) string { t.Helper(); return build(t, "demo", "./cmd/demo") }

func tablecloth(t *testing.T) string { t.Helper(); return build(t, "tablecloth", "./cmd/tablecloth") }

// otherRelease is the demo, built with another release of this library: one
// whose upgrader speaks other versions of the handoff protocol.
func otherRelease(t *testing.T, name, protocol string) string {
	t.Helper()
	const file, line = "upgrader/wire.go", "var protocol, protocolOldest = 1, 1\n"
	path, err := filepath.Abs(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), line) != 1 {
		t.Fatalf("%s has no line %q any more", file, line)
	}
	dir := t.TempDir()
	changed := strings.Replace(string(source), line, "var protocol, protocolOldest = "+protocol+"\n", 1)
	write(t, filepath.Join(dir, "wire.go"), changed, 0o644)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: filepath.Join(dir, "wire.go")}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay"), string(overlay), 0o644)
	return build(t, name, "-overlay", filepath.Join(dir, "overlay"), "./cmd/demo")
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// copyOf puts a copy of a program at path.
func copyOf(t *testing.T, path, from string) string {
	t.Helper()
	proctest.Copy(t, path, from)
	return path
}
