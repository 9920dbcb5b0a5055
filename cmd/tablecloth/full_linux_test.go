package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// onFullDisk runs a command of this one's as "$0", $DISK being a full disk.
const onFullDisk = `mount -t tmpfs -o size=4k tmpfs "$DISK" || exit 77
head -c 4096 /dev/zero >"$DISK/fill"
"$0" "$@"
echo "exit status $?"
ls "$DISK"`

// What can't be written whole is not left behind, in the way of the next attempt.
func TestAFullDisk(t *testing.T) {
	disk, namespaces := t.TempDir(), "--mount"
	if os.Getuid() != 0 {
		namespaces = "--user --map-root-user --mount"
	}
	unshared := func(args ...string) *exec.Cmd {
		cmd := as(t, "tablecloth")
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `exec unshare $NAMESPACES /bin/sh -c "$SCRIPT" "$0" "$@"`, os.Args[0]}, args...)
		cmd.Env = append(cmd.Env, "SCRIPT="+onFullDisk, "DISK="+disk, "NAMESPACES="+namespaces)
		return cmd
	}
	_, err := unshared("version").Output()
	testenv.Need(t, "a mount namespace (unshare(1))", err == nil)
	for _, args := range [][]string{{"init", disk + "/x.yaml"}, {"unit", "--output", disk, "--", "/bin/sh"}} {
		out, err := unshared(args...).CombinedOutput()
		text := string(out)
		if err != nil || !strings.Contains(text, "no space left") || !strings.HasSuffix(text, "exit status 1\nfill\n") {
			t.Errorf("%s: %v: %s", args[0], err, text)
		}
	}
}
