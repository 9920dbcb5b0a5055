package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// Two versions of all packages, built once.
const (
	older = "1.0.0"
	newer = "1.1.0"
	since = "1700000000" // SOURCE_DATE_EPOCH
)

var dist string // directories named after versions, and the service: demo

func TestMain(m *testing.M) {
	os.Setenv("SOURCE_DATE_EPOCH", since)
	status, err := withPackages(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func withPackages(f func() int) (int, error) {
	var err error
	if dist, err = os.MkdirTemp("", "tablecloth-packages-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dist)
	if err := os.Chmod(dist, 0o755); err != nil {
		return 0, err
	}
	for _, version := range []string{older, newer} {
		if err := pack("../..", version, filepath.Join(dist, version)); err != nil {
			return 0, err
		}
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dist, "demo"), "./cmd/demo")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out)
	}
	return f(), nil
}

func pack(source, version, out string) error {
	cmd := exec.Command("go", "run", ".", "--source", source, "--out", out, "--version", version,
		"--commit", "0123456789abcdef0123456789abcdef01234567", "--arch", runtime.GOARCH)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, text)
	}
	return nil
}

func packagePath(version, format string) string {
	return filepath.Join(dist, version, fmt.Sprintf("tablecloth_%s_linux_%s.%s", version, runtime.GOARCH, format))
}

// Built from a copy of the source that lies elsewhere, every package has the same
// bytes; another version has others.
func TestReproducible(t *testing.T) {
	elsewhere := t.TempDir()
	copySource(t, elsewhere)
	if err := pack(elsewhere, older, filepath.Join(elsewhere, "dist")); err != nil {
		t.Fatal(err)
	}
	for _, format := range allFormats {
		path := packagePath(older, format)
		first, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(filepath.Join(elsewhere, "dist", filepath.Base(path)))
		if err != nil || !bytes.Equal(first, again) {
			t.Errorf("%s: built twice, two packages (%v)", filepath.Base(path), err)
		}
		if other, err := os.ReadFile(packagePath(newer, format)); err != nil || bytes.Equal(first, other) {
			t.Errorf("%s: another version is the same package (%v)", format, err)
		}
	}
}

// copySource copies what git knows, or would add.
func copySource(t *testing.T, to string) {
	t.Helper()
	testenv.Need(t, "git, and a repository", exec.Command("git", "rev-parse").Run() == nil)
	sh := exec.Command("sh", "-c", `cd ../.. && git ls-files -co --exclude-standard | while read -r f; do [ ! -e "$f" ] || echo "$f"; done | tar -cf - -T - | tar -xf - -C "$1"`, "sh", to)
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// The tarball can be unpacked below /usr/local, and its units say so.
func TestTarball(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("tar", "-C", dir, "--strip-components", "1", "-xf", packagePath(older, "tar.gz")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err = exec.Command(filepath.Join(dir, "bin/tablecloth"), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "tablecloth v1.0.0 (commit 0123456789ab, ") {
		t.Errorf("%v %s", err, out)
	}
	unit, err := os.ReadFile(filepath.Join(dir, "lib/systemd/system/tablecloth@.service"))
	if err != nil || strings.Contains(string(unit), "=/usr/bin/") || !strings.Contains(string(unit), "ExecStart=/usr/local/bin/tablecloth ") {
		t.Errorf("%v\n%s", err, unit)
	}
}

// Each command has a man page, which man(1) can show without a complaint.
func TestManPages(t *testing.T) {
	b := build{source: "../..", version: older}
	pages, err := b.manPages()
	if err != nil {
		t.Fatal(err)
	}
	_, err = exec.LookPath("man")
	testenv.Need(t, "man", err == nil)
	for _, p := range pages {
		path := filepath.Join(t.TempDir(), filepath.Base(p.path))
		if err := os.WriteFile(path, p.text, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", path)
		cmd.Env = append(os.Environ(), "MANWIDTH=80", "MAN_KEEP_FORMATTING=", "LC_ALL=C.UTF-8", "PAGER=cat", "MANPAGER=cat")
		var said, complaints bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &complaints
		if err := cmd.Run(); err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v\n%s", p.path, err, &complaints)
		}
		for _, heading := range []string{"\nNAME\n", "\nSYNOPSIS\n", "\nSEE ALSO\n"} {
			if !strings.Contains("\n"+said.String(), heading) {
				t.Errorf("%s has no %q:\n%s", p.path, heading, &said)
			}
		}
	}
}
