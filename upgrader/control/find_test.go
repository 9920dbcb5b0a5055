//go:build unix

package control

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nowhere makes Find look only where a test says; what /run/tablecloth has on
// this machine is skipped.
func nowhere(t *testing.T) (user, unit string) {
	t.Helper()
	if live, denied := sift([]string{}); live != nil || denied != nil {
		t.Fatal("nothing is something")
	}
	if entries, _ := os.ReadDir(systemDirectory); len(entries) > 0 {
		t.Skipf("%s is in use on this machine", systemDirectory)
	}
	t.Setenv(EnvPath, "")
	user, unit = filepath.Join(t.TempDir(), "u"), filepath.Join(t.TempDir(), "r")
	t.Setenv("XDG_RUNTIME_DIR", user)
	t.Setenv("RUNTIME_DIRECTORY", unit)
	for _, d := range []string{filepath.Join(user, "tablecloth"), unit} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(user, "tablecloth"), unit
}

func TestFind(t *testing.T) {
	user, unit := nowhere(t)
	if _, err := Find(); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), user) {
		t.Errorf("none: %v", err)
	}
	listen(t, filepath.Join(user, "stale")).Close()
	if err := os.WriteFile(filepath.Join(user, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	web := listen(t, filepath.Join(user, "web"))
	if path, err := Find(); err != nil || path != web.Path() {
		t.Errorf("one: %q, %v", path, err)
	}
	control := listen(t, filepath.Join(unit, "control"))
	_, err := Find()
	var e *Error
	if !errors.Is(err, ErrAmbiguous) || !errors.As(err, &e) || !strings.Contains(e.Message, control.Path()) || !strings.Contains(e.Message, web.Path()) {
		t.Errorf("two: %v", err)
	}
	web.Close()
	if path, err := Find(); err != nil || path != control.Path() {
		t.Errorf("the unit's: %q, %v", path, err)
	}
	control.Close()
	if err := os.Mkdir(filepath.Join(user, "api"), 0o700); err != nil {
		t.Fatal(err)
	}
	api := listen(t, filepath.Join(user, "api", "control"))
	if path, err := Find(); err != nil || path != api.Path() {
		t.Errorf("in a unit's directory: %q, %v", path, err)
	}
	t.Setenv(EnvPath, "/elsewhere")
	if path, err := Find(); err != nil || path != "/elsewhere" {
		t.Errorf("named: %q, %v", path, err)
	}
}

func TestPlaceIsWhereFindLooks(t *testing.T) {
	user, unit := nowhere(t)
	if path, err := Place("web"); err != nil || path != filepath.Join(unit, "control") {
		t.Errorf("%q, %v", path, err)
	}
	t.Setenv(EnvPath, "/elsewhere")
	if path, err := Place("web"); err != nil || path != "/elsewhere" {
		t.Errorf("%q, %v", path, err)
	}
	t.Setenv(EnvPath, "")
	t.Setenv("RUNTIME_DIRECTORY", "")
	for _, name := range []string{"", "..", "a/b", ".", "/"} {
		if path, err := Place(name); err == nil {
			t.Errorf("%q: %q", name, path)
		}
	}
	if err := os.Remove(user); err != nil {
		t.Fatal(err)
	}
	path, err := place("web", 1000)
	if err != nil || path != filepath.Join(user, "web") {
		t.Errorf("%q, %v", path, err)
	}
	listen(t, path)
	if found, err := Find(); err != nil || found != path {
		t.Errorf("%q, %v", found, err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if path, err := place("web", 1000); err != nil || path != "" {
		t.Errorf("%q, %v", path, err)
	}
}
