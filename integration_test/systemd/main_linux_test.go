// Package systemd tests services in a real systemd, which is booted for them.
package systemd

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// reason why there is no bed; nil: the tests run in one.
var reason error

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	switch os.Getenv(envRole) {
	case roleInit:
		becomeInit()
	case roleSweep:
		if err := sweep(os.Getenv(envName)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case roleInside:
		os.Unsetenv(envRole)
		flag.Parse()
		// Most of the time is spent waiting for systemd, not computing.
		if !given("test.parallel") {
			flag.Set("test.parallel", "6")
		}
		return m.Run()
	case roleService:
		return serve()
	}
	if reason = possible(); reason != nil || listsOnly() {
		return m.Run()
	}
	code, err := runInBed(build)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bed:", err)
		return 1
	}
	return code
}

func given(name string) (yes bool) {
	flag.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// listsOnly reports whether no test is to be run.
func listsOnly() bool {
	flag.Parse()
	return flag.Lookup("test.list").Value.String() != ""
}

// inBed skips tests that are not.
func inBed(t *testing.T) {
	t.Helper()
	if reason != nil {
		testenv.Need(t, reason.Error(), false)
	}
}

// build makes the programs that the tests need, before there is no network any
// more, and nowhere to write.
func build(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "self"), b, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-o", filepath.Join(dir, "tablecloth")}
	if testenv.Race {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "github.com/tablecloth-go/tablecloth/cmd/tablecloth")...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
