package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

func init() {
	roles["program"] = keptProgram
	roles["detaching"] = func() {
		os.Setenv(roleVariable, "tablecloth") // of the process that goes on
		main()
	}
}

// keptProgram serves its PID and arguments on the socket that it is given.
func keptProgram() {
	sockets, err := sd.Listen()
	if err != nil || len(sockets) == 0 {
		fmt.Fprintln(os.Stderr, "no socket:", err)
		os.Exit(7)
	}
	if len(os.Args) > 1 && os.Args[1] == "fail" {
		fmt.Fprintln(os.Stderr, "as the test wants it")
		os.Exit(9)
	}
	ln, err := net.FileListener(sockets[0].File())
	if err != nil {
		panic(err)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, os.Getpid(), strings.Join(os.Args[1:], " "))
	})}
	served := make(chan struct{})
	go func() { server.Serve(ln); close(served) }()
	n, err := sd.NewNotifier(os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		panic(err)
	}
	n.Ready()
	<-term
	ln.Close()
	<-served // Shutdown doesn't know of a connection that is being accepted
	server.Shutdown(context.Background())
}

// TestRunDetached goes through the life of a kept program as an operator sees it.
func TestRunDetached(t *testing.T) {
	dir := t.TempDir()
	path, pidfile := filepath.Join(dir, "control"), filepath.Join(dir, "pid")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := as(t, "detaching", "run", "--control", path, "--pidfile", pidfile, "--detach", "--name", "web", "--listen", "127.0.0.1:0",
		"--env", roleVariable+"=program", "--", os.Args[0], "one")
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Run()
	log.Close()
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%v: %s", err, text)
	}
	t.Cleanup(func() { endKeeper(t, pidfile) })

	// It has returned, so it is ready.
	tablecloth(t, "--control", path, "status").expect(t, exitDone, "web: serving, generation 1", "")
	tablecloth(t, "--control", path, "restart").expect(t, exitDone, "web: generation 2 is ready", "")
	tablecloth(t, "--control", path, "upgrade", "--", "fail").expect(t, exitFailed, "", "as the test wants it")
	tablecloth(t, "--control", path, "upgrade", "--", "two").expect(t, exitDone, "web: generation 4 is ready", "")
	c, err := control.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", st.Keeper.PID)); err != nil || !strings.HasPrefix(filepath.Base(os.Args[0]), strings.TrimSpace(string(comm))) {
		t.Errorf("the keeper is called %q, %v", comm, err)
	}
	r, err := http.Get("http://" + strings.TrimPrefix(st.Services[0].Listen[0], "tcp:"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusOK || len(body) == 0 {
		t.Errorf("%s %s", r.Status, body)
	}
	tablecloth(t, "--control", path, "stop").expect(t, exitDone, "", "")
	proctest.Poll(t, "the control socket's end", func() bool {
		_, err := os.Lstat(path)
		return os.IsNotExist(err)
	})
	tablecloth(t, "--control", path, "upgrade").expect(t, exitNotRunning, "", "nothing listens")
}

// endKeeper leaves nothing behind, whatever the test came to.
func endKeeper(t *testing.T, pidfile string) {
	data, err := os.ReadFile(pidfile)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Error(err)
		return
	}
	proctest.Kill(pid, syscall.SIGTERM)
	proctest.Poll(t, "the end of the keeper", func() bool { return proctest.Kill(pid, 0) != nil })
}

func TestRunDetachedTellsTheStatus(t *testing.T) {
	for status, program := range map[int][]string{
		127: {"/no/such/program"},
		3:   {"/bin/sh", "-c", "exit 3"}, // time and again
	} {
		control := filepath.Join(t.TempDir(), "c")
		cmd := as(t, "detaching", append([]string{"run", "--control", control, "--detach", "--"}, program...)...)
		cmd.Run()
		if n := cmd.ProcessState.ExitCode(); n != status {
			t.Errorf("%q: exit status %d", program, n)
		}
		if _, err := os.Stat(control); err == nil {
			t.Errorf("%q: the keeper is still there", program)
		}
	}
}

// TestRunExitStatus: the program's is run's.
func TestRunExitStatus(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		status int
		stderr string
	}{
		{"the program's", []string{"-q", "--restart", "no", "--", "/bin/sh", "-c", "exit 3"}, 3, "exit status 3"},
		{"not there", []string{"--", "/no/such/program"}, 127, "tablecloth: hint: there is no such file, or its interpreter is missing\n"},
		{"not executable", []string{"--", "/etc/passwd"}, 126, "tablecloth: hint: it is not executable for the user that it runs as, or not for this machine\n"},
		{"not in the path", []string{"--", "no-such-program"}, 127, "no-such-program: is not in $PATH"},
		{"no environment file", []string{"--env-file", "/no/such/file", "--", "/bin/true"}, 126, "/no/such/file: no such file"},
		{"a directory as environment file", []string{"--env-file", "/", "--", "/bin/true"}, 126, "is a directory"},
		{"no environment in the file", []string{"--env-file", "/etc/passwd", "--", "/bin/true"}, 126, "line 1: not KEY=VALUE"},
		{"no place for the status", []string{"--status-file", "/no/such/place", "--", "x"}, exitKeeper, "status file /no/such/place: "},
		{"no program", nil, exitKeeper, "tablecloth: hint: "},
		{"unknown flag", []string{"--levitate", "--", "x"}, exitKeeper, "tablecloth: hint: "},
		{"bad name", []string{"--name", "two\nlines", "--", "x"}, exitKeeper, `name "two\nlines": it stands in logs and tables`},
		{"bad address", []string{"--listen", "nowhere", "--", "x"}, exitKeeper, "no port"},
		{"bad readiness", []string{"--ready", "sometimes", "--", "x"}, exitKeeper, "auto, notify, listen"},
		{"bad signal", []string{"--stop-signal", "NONE", "--", "x"}, exitKeeper, "is no signal"},
		{"bad limit", []string{"--limit", "patience=3", "--", "x"}, exitKeeper, "nofile"},
		{"a limit beyond the kernel's", []string{"--limit", "nofile=99999999999", "--", "/bin/true"}, 126, "limit nofile=99999999999: operation not permitted\ntablecloth: hint: without the right to raise it"},
		{"no such directory", []string{"--chdir", "/no/such/place", "--", "/bin/true"}, 127, "hint: the directory must be there"},
		{"bad rescue", []string{"--rescue", "perhaps", "--", "x"}, exitKeeper, "on or off"},
		{"bad crash page", []string{"--crash-page", "/no/such/page", "--", "x"}, exitKeeper, "/no/such/page"},
		{"bad user", []string{"--user", "nobody-of-that-name", "--", "x"}, exitKeeper, "nobody-of-that-name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"run", "--control", filepath.Join(t.TempDir(), "c")}, c.args...)
			tablecloth(t, args...).expect(t, c.status, "", c.stderr)
		})
	}
}
