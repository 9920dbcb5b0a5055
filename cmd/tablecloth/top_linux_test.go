package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// tmux is a server of its own, with one window in which a shell runs.
type tmux struct {
	t      *testing.T
	socket string
	env    []string // of what runs in it, too
}

// startTmux adds env to the environment of what runs in it.
func startTmux(t *testing.T, env ...string) *tmux {
	t.Helper()
	_, err := exec.LookPath("tmux")
	testenv.Need(t, "tmux", err == nil)
	m := &tmux{t, filepath.Join(t.TempDir(), "tmux"), append(os.Environ(), env...)}
	m.do("-u", "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "env PS1='ready> ' /bin/sh")
	pid, err := strconv.Atoi(strings.TrimSpace(m.do("display-message", "-p", "#{pid}")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("tmux", "-S", m.socket, "kill-server").Run()
		proctest.Poll(t, "the end of tmux", func() bool { return proctest.Kill(pid, 0) != nil })
	})
	m.sees("ready>")
	return m
}

func (m *tmux) do(args ...string) string {
	m.t.Helper()
	// The server would hold on to a pipe.
	out, err := os.CreateTemp(m.t.TempDir(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("tmux", append([]string{"-S", m.socket}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = m.env, out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	if err != nil {
		m.t.Fatalf("tmux %v: %v: %s", args, err, text)
	}
	return string(text)
}

// types types a line.
func (m *tmux) types(text string) {
	m.t.Helper()
	m.do("send-keys", "-l", text)
	m.do("send-keys", "Enter")
}

func (m *tmux) presses(keys ...string) {
	m.t.Helper()
	m.do(append([]string{"send-keys"}, keys...)...)
}

func (m *tmux) screen() string { return m.do("capture-pane", "-p") }

// sees waits until all that is wanted is on the screen at the same time.
func (m *tmux) sees(want ...string) string {
	m.t.Helper()
	shown := ""
	proctest.Check(m.t, func() error {
		shown = m.screen()
		for _, w := range want {
			if !strings.Contains(shown, w) {
				return fmt.Errorf("%q is not seen:\n%s", w, shown)
			}
		}
		return nil
	})
	return shown
}

// write replaces a program as a deployment does.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestTopSession is a person's: a service is started, an upgrade of it fails; they
// read why, put it right, and upgrade. All of it is seen in 80 columns and 24 lines.
func TestTopSession(t *testing.T) {
	dir := t.TempDir()
	path, pidfile, app, self := filepath.Join(dir, "control"), filepath.Join(dir, "pid"), filepath.Join(dir, "web"), filepath.Join(dir, "tablecloth")
	working := fmt.Sprintf("#!/bin/sh\n%s=program exec '%s'\n", roleVariable, os.Args[0])
	write(t, app, working)
	write(t, self, fmt.Sprintf("#!/bin/sh\n%s=detaching GORACE=atexit_sleep_ms=0 exec '%s' \"$@\"\n", roleVariable, os.Args[0]))
	m := startTmux(t, "PATH="+dir+":"+os.Getenv("PATH"), "TABLECLOTH_CONTROL="+path, "LC_ALL=C.UTF-8")
	t.Cleanup(func() { endKeeper(t, pidfile) })

	m.types("tablecloth run --detach --pidfile " + pidfile + " --name web --ready notify --listen 127.0.0.1:0 -- " + app + " 2>" + filepath.Join(dir, "log") + "; echo started: $?")
	m.sees("started: 0")
	m.types("tablecloth top")
	m.sees("tablecloth top  web  keeper", "serving, generation 1, 1 worker", "GENERATIONS", "EVENTS", "ready by notify", "u upgrade")
	m.presses("-") // on a busy machine all this takes a while
	m.sees("GENERATIONS  -10m")

	write(t, app, "#!/bin/sh\necho no such database: users >&2\nexit 7\n")
	m.presses("u")
	m.sees("Upgrade web: start what lies on disk now?   [y] yes   [n] no")
	m.presses("y")
	m.sees("web: upgrade failed", "w: why", "serving, generation 1,", "2 failed", "failed   gen 2")

	m.presses("w")
	m.sees("The last upgrade of web", "no such database: users", "exit status 7", "generation 1 (pid", "still serves")

	write(t, app, working)
	m.presses("u")
	m.sees("[y] yes")
	m.presses("y")
	m.sees("web: generation 3 is ready")
	m.presses("q") // back
	m.sees("serving, generation 3, 1 worker", "3 serving", "1 gone", "upgraded gen 3")

	m.do("resize-window", "-x", "50", "-y", "14")
	m.sees("serving, generation 3, 1 worker", "? help  q quit")

	// The keeper ends, and comes back.
	m.presses("s")
	m.sees("Stop web, and its keeper?")
	m.presses("y")
	m.sees("not running for", "gone")
	keeper := startTablecloth(t, "run", "--control", path, "--name", "web", "--listen", "127.0.0.1:0", "--", app)
	m.sees("serving, generation 1, 1 worker", "1 serving")
	m.presses("q")
	m.sees("ready>")
	keeper.cmd.Process.Signal(syscall.SIGTERM)
	if r := keeper.wait(t); r.status != 0 {
		t.Errorf("the keeper: %d %s", r.status, r.stderr)
	}
}

// TestTopSuitsTheTerminal: what it can't show isn't sent.
func TestTopSuitsTheTerminal(t *testing.T) {
	f := startService(t, &fakeService{status: fleet})
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tablecloth"), fmt.Sprintf("#!/bin/sh\n%s=tablecloth exec '%s' \"$@\"\n", roleVariable, os.Args[0]))
	m := startTmux(t, "PATH="+dir+":"+os.Getenv("PATH"), "TABLECLOTH_CONTROL="+f.path)
	for _, c := range []struct {
		env             string
		colour, unicode bool
	}{{"LC_ALL=C.UTF-8", true, true}, {"LC_ALL=C NO_COLOR=1", false, false}} {
		m.types("clear; " + c.env + " tablecloth top")
		m.sees("tablecloth top  keeper 812", "jobs", "q quit")
		shown := m.do("capture-pane", "-p", "-e")
		if got := strings.Contains(shown, "\x1b[32m"); got != c.colour {
			t.Errorf("%s: colours: %v\n%s", c.env, got, shown)
		}
		if got := strings.Contains(shown, "─"); got != c.unicode {
			t.Errorf("%s: Unicode: %v\n%s", c.env, got, shown)
		}
		m.presses("q")
		m.sees("ready>")
	}
	m.types("clear; TERM=dumb tablecloth top; echo status: $?")
	m.sees("top needs a terminal", "tablecloth status --watch", "status: 2")
	m.types("clear; TERM=nonesuch tablecloth top; echo status: $?")
	m.sees("can't draw on this terminal", "status: 2")
}
