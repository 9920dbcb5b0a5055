package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// privateRoot is this machine's file system, of which nothing that is written
// in there stays: an overlay in a mount namespace of its own. Its processes end
// with it.
type privateRoot struct {
	*testing.T
	pid int // of a process in it
}

// The first process makes the root, and ends with its standard input.
const makeRoot = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o lowerdir=/,upperdir="$1/up",workdir="$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount --bind "$2" "$1/root/mnt"
mount -t tmpfs tmpfs "$1/root/run"
mount -t tmpfs tmpfs "$1/root/tmp"
exec chroot "$1/root" sh -c 'echo $$; cat >/dev/null'`

// newPrivateRoot makes one, where shared is found as /mnt.
func newPrivateRoot(t *testing.T, shared string) *privateRoot {
	t.Helper()
	testenv.Need(t, "root", os.Getuid() == 0)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	said, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	var trouble strings.Builder
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", makeRoot, "sh", t.TempDir(), shared)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, say, &trouble
	err = cmd.Start()
	r.Close()
	say.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		cmd.Wait()
	})
	if _, err := io.ReadFull(said, make([]byte, 1)); err != nil {
		cmd.Wait()
		testenv.Need(t, "namespaces and overlay mounts: "+trouble.String(), false)
	}
	// Not unshare, but its child: that is where the new PID namespace begins.
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatal(err)
	}
	return &privateRoot{t, pid}
}

func (r *privateRoot) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(r.pid), "--mount", "--pid", "--root", "--wd"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// do runs a command in there, and returns what it says.
func (r *privateRoot) do(args ...string) string {
	r.Helper()
	out, err := r.command(args...).CombinedOutput()
	if err != nil {
		r.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// spawn starts a process that lasts as long as the root, or the test.
func (r *privateRoot) spawn(args ...string) {
	r.Helper()
	log, err := os.Create(filepath.Join(r.TempDir(), "log"))
	if err != nil {
		r.Fatal(err)
	}
	defer log.Close()
	cmd := r.command(args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if r.Failed() {
			text, _ := os.ReadFile(log.Name())
			r.Logf("%q:\n%s", args, text)
		}
	})
}

// path of a file in there, as seen from here.
func (r *privateRoot) path(p string) string { return fmt.Sprintf("/proc/%d/root%s", r.pid, p) }

func (r *privateRoot) has(p string) bool {
	_, err := os.Lstat(r.path(p))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.Error(err)
	}
	return err == nil
}
