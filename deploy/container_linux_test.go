package deploy_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// An image's file system: the files that the Containerfile copies, and what every
// container runtime adds. Its process has no rights at all.
const makeContainer = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$ROOT"
mkdir -p "$ROOT/usr/bin" "$ROOT/proc" "$ROOT/dev" "$ROOT/run/tablecloth"
cp "$BIN/tablecloth" "$BIN/app" "$ROOT/usr/bin"
mount --bind "$SHARED" "$ROOT/run/tablecloth"
chown 65532:65532 "$ROOT/run/tablecloth"
mount -t proc proc "$ROOT/proc"
for d in null zero urandom; do touch "$ROOT/dev/$d"; mount --bind "/dev/$d" "$ROOT/dev/$d"; done
mount -o remount,ro "$ROOT"
cd "$ROOT"
exec setpriv --no-new-privs chroot --userspec="$USERSPEC" --groups= "$ROOT" "$@"`

// container runs the image of the Containerfile as PID 1.
type container struct {
	*site
	unshare *exec.Cmd
	ended   <-chan struct{} // unshare, after PID 1
	pid     int             // of PID 1, seen from here
}

func startContainer(t *testing.T) *container {
	t.Helper()
	testenv.Need(t, "root", os.Getuid() == 0)
	s := newSite(t)
	shared := filepath.Dir(s.socket)
	i := containerfile(t)
	args := append([]string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-c", makeContainer, "sh"}, i.entrypoint...)
	for _, a := range i.cmd {
		// The demo's own names.
		args = append(args, strings.Replace(a, "-listen", "-web", 1))
	}
	for n, a := range args {
		args[n] = s.here(a)
	}
	args = append(args, "-api=")
	cmd := exec.Command("unshare", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ROOT=" + t.TempDir(), "BIN=" + bin, "SHARED=" + shared, "USERSPEC=" + i.user}
	for _, e := range i.env {
		if !strings.HasPrefix(e, "TABLECLOTH_CONTROL=/run/tablecloth/") {
			t.Fatalf("ENV %s", e)
		}
		cmd.Env = append(cmd.Env, e)
	}
	out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "true").CombinedOutput()
	testenv.Need(t, fmt.Sprintf("namespaces (%s)", out), err == nil)
	c := &container{site: s, unshare: cmd}
	c.ended = s.begin(cmd)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if c.pid, err = strconv.Atoi(strings.TrimSpace(string(children))); err != nil {
		t.Fatal(err)
	}
	return c
}

// exec runs a command in there, as podman exec would.
func (c *container) exec(args ...string) {
	c.Helper()
	cmd := exec.Command("nsenter", append([]string{"--target", itoa(c.pid), "--mount", "--pid", "--root", "--wd"}, args...)...)
	cmd.Env = containerfile(c.T).env
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// kill sends a signal to a process by the number that it has in there.
func (c *container) kill(sig syscall.Signal) func(pid int) {
	return func(pid int) {
		c.Helper()
		names, err := filepath.Glob("/proc/[0-9]*/status")
		if err != nil {
			c.Fatal(err)
		}
		want := fmt.Sprintf("\t%d", pid)
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.pid))
		if err != nil {
			c.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			_, line, _ := strings.Cut(string(text), "\nNSpid:")
			line, _, _ = strings.Cut(line, "\n")
			if own, _ := os.Readlink(filepath.Join(filepath.Dir(name), "ns/pid")); own != namespace || !strings.HasSuffix(line, want) {
				continue
			}
			outer, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				c.Fatal(err)
			}
			if err := syscall.Kill(outer, sig); err != nil {
				c.Fatal(err)
			}
			return
		}
		c.Fatalf("there is no process %d", pid)
	}
}

// The image of the Containerfile: no privileges, a root that can't be written to,
// the keeper as PID 1. Upgrades, deaths and a stop.
func TestContainer(t *testing.T) {
	t.Parallel()
	c := startContainer(t)
	if p := c.worker().PID; p == 0 || p > 100 {
		t.Fatalf("the worker's PID is %d: it is in no namespace of its own", p)
	}
	c.probe("/healthz", http.StatusOK)
	c.probe("/readyz", http.StatusOK)
	c.load()
	for g := 2; g <= testenv.Count(3, 30); g++ {
		c.exec("/usr/bin/tablecloth", "upgrade")
		c.sees(g)
	}
	generation := testenv.Count(3, 30)
	if err := syscall.Kill(c.pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	c.sees(generation + 1)
	c.unharmed()
	c.killed(c.kill(syscall.SIGKILL), generation+2)

	// STOPSIGNAL: nothing is left, in time, and PID 1 has ended in order.
	if sig := containerfile(t).stopSignal; sig != "SIGTERM" {
		t.Fatalf("STOPSIGNAL %s", sig)
	}
	began := time.Now()
	if err := syscall.Kill(c.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	proctest.Await(t, "the end of the container", c.ended)
	if took := time.Since(began); !c.unshare.ProcessState.Success() || took > keeper.DefaultStopTimeout {
		t.Errorf("the stop has taken %v, %v", took, c.unshare.ProcessState)
	}
	c.gone()
}

// A request that runs at the stop is answered, by a service as PID 1.
func TestContainerStopAnswers(t *testing.T) {
	t.Parallel()
	c := startContainer(t)
	body, rest := io.Pipe()
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Post("http://"+c.web+"/echo", "text/plain", body)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		answer <- fmt.Sprintf("%d %s %v", resp.StatusCode, text, err)
	}()
	fmt.Fprint(rest, "asked before, ")
	proctest.Poll(c, "the request", func() bool { w := c.worker(); return w.Conns != nil && w.Conns.Active > 0 })
	if err := syscall.Kill(c.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	proctest.Poll(c, "the stop", func() bool { return c.worker().PID == 0 })
	fmt.Fprint(rest, "answered after")
	rest.Close()
	if a := proctest.Await(t, "the answer", answer); a != "200 asked before, answered after <nil>" {
		t.Error(a)
	}
	proctest.Await(t, "the end of the container", c.ended)
	c.gone()
}

// The control of TestContainer: a program that replaces itself can't as PID 1. It
// says so, and goes on.
func TestContainerAloneRefuses(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "root", os.Getuid() == 0)
	s := newSite(t)
	s.begin(s.command("unshare", "--pid", "--fork", "--kill-child", filepath.Join(bin, "app"),
		"-api=", "-web", s.web, "-control", s.socket))
	out, err := s.command(filepath.Join(bin, "tablecloth"), "upgrade", "--control", s.socket).CombinedOutput()
	var exit *exec.ExitError
	if exit, _ = err.(*exec.ExitError); exit == nil || exit.ExitCode() != 5 || !strings.Contains(string(out), "tablecloth run") {
		t.Errorf("%v\n%s", err, out)
	}
}

func (c *container) probe(path string, want int) {
	c.Helper()
	resp, err := http.Get("http://" + c.metrics + path)
	if err != nil {
		c.Error(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		c.Errorf("%s: %s", path, resp.Status)
	}
}
