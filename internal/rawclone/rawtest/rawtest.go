// Package rawtest reads compiled code, for the tests of what runs in a process
// that package rawclone has made.
package rawtest

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// Compiled fails the test if the compiler has put anything into these functions of
// the package in the current directory that the new process couldn't bear: a stack
// check, a write barrier, a call of the runtime or through a pointer, something for
// the race detector. In a soak that goes for all architectures, and the linker sees
// it unoptimised.
func Compiled(t *testing.T, functions []string) {
	t.Helper()
	_, err := exec.LookPath("go")
	testenv.Need(t, "the go command, to read what it makes", err == nil)
	full := testenv.Count(0, 1) > 0 // the first time it compiles the standard library
	read := func(arch string, flags ...string) {
		t.Run(strings.Join(append(flags, arch), " "), func(t *testing.T) { check(t, arch, flags, functions) })
	}
	read(runtime.GOARCH)
	if testenv.Race || full {
		read(runtime.GOARCH, "-race")
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if full && arch != runtime.GOARCH {
			read(arch)
		}
		if full {
			t.Run("unoptimised "+arch, func(t *testing.T) { link(t, arch) })
		}
	}
}

var (
	begin    = regexp.MustCompile(`^(\S+) STEXT (.*)`)
	direct   = regexp.MustCompile(`\t(?:CALL|BL|JMP|B)\t(\S+)\(SB\)`)
	indirect = regexp.MustCompile(`\t(?:CALL|BL)\t(?:\(?[A-Z]|0\()`)
	outside  = []string{"syscall.RawSyscall6", "internal/rawclone.Clone", "internal/rawclone.SwapMask"}
)

func check(t *testing.T, arch string, flags, functions []string) {
	cmd := exec.Command("go", append(append([]string{"build", "-gcflags=-S"}, flags...), ".")...)
	cmd.Env = append(cmd.Environ(), "GOARCH="+arch)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen := map[string]bool{}
	now := "" // "": none of them
	for line := range strings.Lines(string(out)) {
		if m := begin.FindStringSubmatch(line); m != nil {
			if now = local(m[1]); !slices.Contains(functions, now) {
				now = ""
				continue
			}
			seen[now] = true
			if !strings.Contains(m[2], "nosplit") {
				t.Errorf("%s has a stack check", now)
			}
		}
		if now == "" {
			continue
		}
		if m := direct.FindStringSubmatch(line); m != nil && !allowed(m[1], functions) || indirect.MatchString(line) {
			t.Errorf("%s calls: %s", now, strings.TrimSpace(line))
		}
	}
	if len(seen) != len(functions) {
		t.Errorf("only found %v", seen)
	}
}

// link lets the linker look at the stack where frames are largest.
func link(t *testing.T, arch string) {
	cmd := exec.Command("go", "test", "-c", "-o", filepath.Join(t.TempDir(), "test"),
		"-gcflags=github.com/tablecloth-go/tablecloth/...=-N -l", ".")
	cmd.Env = append(cmd.Environ(), "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func allowed(name string, functions []string) bool {
	return slices.Contains(functions, local(name)) ||
		slices.ContainsFunc(outside, func(o string) bool { return strings.HasSuffix(name, o) })
}

// local returns the name of a function without its package; methods keep theirs.
func local(name string) string {
	_, after, found := strings.Cut(name[strings.LastIndex(name, "/")+1:], ".")
	if !found {
		return name
	}
	return after
}
