//go:build linux && (amd64 || arm64)

package vault

import (
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// The functions that run in the vault.
var inVault = []string{"launch", "swapMask", "clone", "serve", "introduce", "receive", "exit",
	"watchParent", "await", "handle", "fetch", "fail", "scan", "option", "respond"}

// TestCompiledCode reads what the compiler made of them: no stack check, no
// write barrier, no call of the runtime, nothing for the race detector.
func TestCompiledCode(t *testing.T) {
	_, err := exec.LookPath("go")
	testenv.Need(t, "the go command, to read what it makes", err == nil)
	check := func(env string, args ...string) {
		t.Run(strings.Join(append(args, env), " "), func(t *testing.T) { checkCode(t, env, args) })
	}
	check("GOARCH=" + runtime.GOARCH)
	if raceEnabled {
		check("GOARCH="+runtime.GOARCH, "-race")
	}
	for _, arch := range []string{"arm64", "amd64"}[:testenv.Count(0, 2)] { // the first time it compiles the standard library
		check("GOARCH=" + arch)
	}
}

var (
	function = regexp.MustCompile(`^(\S+) STEXT (.*)`)
	call     = regexp.MustCompile(`\t(?:CALL|BL|JMP|B)\t(\S+)\(SB\)`)
)

func checkCode(t *testing.T, env string, flags []string) {
	args := append([]string{"build", "-gcflags=-S"}, flags...)
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Env = append(cmd.Environ(), env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen := map[string]bool{}
	now := ""
	for line := range strings.Lines(string(out)) {
		if m := function.FindStringSubmatch(line); m != nil {
			now = local(m[1])
			if slices.Contains(inVault, now) {
				seen[now] = true
				if !strings.Contains(m[2], "nosplit") {
					t.Errorf("%s has a stack check", now)
				}
			}
		}
		if m := call.FindStringSubmatch(line); m != nil && slices.Contains(inVault, now) && !allowed(m[1]) {
			t.Errorf("%s calls %s", now, m[1])
		}
	}
	if len(seen) != len(inVault) {
		t.Errorf("only found %v", seen)
	}
}

func allowed(name string) bool {
	return name == "syscall.RawSyscall6" || slices.Contains(inVault, local(name))
}

// local returns the name of a function of this package; methods keep theirs.
func local(name string) string {
	if i := strings.LastIndex(name, "/vault."); i >= 0 {
		return name[i+len("/vault."):]
	}
	return name
}
