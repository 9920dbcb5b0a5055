package system

import (
	"errors"
	"os/exec"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/bench/internal/serve"
)

// Catalogue lists all systems, ours last.
func Catalogue() []*System {
	all := restarted()
	all = append(all, libraries()...)
	all = append(all, servers()...)
	all = append(all, underSystemd()...)
	for _, s := range ours() {
		s.Ours = true
		all = append(all, s)
	}
	return all
}

// restartDelay is systemd's default RestartSec=, for what has no keeper of its own.
const restartDelay = 100 * time.Millisecond

const (
	sameAsKilled = "a death is the same as for the one that is killed"
	sameAsReload = "a death is the same as for the one that is reloaded"
)

func restarted() []*System {
	plain := func(name, title, setup string, s syscall.Signal, delay time.Duration, skip map[string]string) *System {
		return &System{
			Name: name, Title: title, Setup: setup, Delay: delay, Skip: skip,
			version: goVersion, start: program("plain"), upgrade: restart(s),
		}
	}
	drained := map[string]string{"crash": sameAsKilled, "panic": sameAsKilled, "steady": sameAsKilled}
	return []*System{
		plain("killed-0", "net/http killed, started at once", "kill -9, started again", syscall.SIGKILL, 0, nil),
		plain("killed-100", "net/http killed, started after 100 ms", "kill -9, started again", syscall.SIGKILL, restartDelay, map[string]string{"steady": sameAsKilled}),
		plain("drained-0", "net/http drained, started at once", "SIGTERM, http.Server.Shutdown, started again", syscall.SIGTERM, 0, drained),
		plain("drained-100", "net/http drained, started after 100 ms", "SIGTERM, http.Server.Shutdown, started again", syscall.SIGTERM, restartDelay, drained),
	}
}

func libraries() []*System {
	return []*System{
		{
			Name: "tableflip", Title: "cloudflare/tableflip", Setup: "SIGHUP calls Upgrade; http.Server.Shutdown after Exit",
			Delay: restartDelay, version: module("github.com/cloudflare/tableflip"), start: program("tableflip"), upgrade: signalServing(syscall.SIGHUP),
		},
		{
			Name: "grace", Title: "facebookgo/grace", Setup: "gracehttp.Serve; SIGUSR2",
			Delay: restartDelay, version: module("github.com/facebookgo/grace"), start: program("grace"), upgrade: signalServing(syscall.SIGUSR2),
		},
		{
			Name: "endless", Title: "fvbock/endless", Setup: "endless.ListenAndServe; SIGHUP",
			Delay: restartDelay, version: module("github.com/fvbock/endless"), start: program("endless"), upgrade: signalServing(syscall.SIGHUP),
		},
		{
			Name: "overseer", Title: "jpillora/overseer", Setup: "http.Serve on State.Listener; SIGUSR2 to the master",
			Delay: restartDelay, Tail: serve.DrainTime, version: module("github.com/jpillora/overseer"), start: program("overseer"), upgrade: signalLeader(syscall.SIGUSR2),
		},
		{
			Name: "starter", Title: "Server::Starter + net/http", Setup: "start_server with its defaults; SIGHUP, the program drains at SIGTERM",
			Delay: restartDelay, version: command("start_server", "--version"), start: starter, upgrade: signalLeader(syscall.SIGHUP),
		},
	}
}

func ours() []*System {
	return []*System{
		{
			Name: "tablecloth", Title: "tablecloth, alone", Setup: "server.Run; SIGHUP",
			Delay: restartDelay, version: goVersion, start: program("tablecloth"), upgrade: signalServing(syscall.SIGHUP),
		},
		{
			Name: "kept", Title: "tablecloth, kept", Setup: "tablecloth run, which rescues connections; SIGHUP to the keeper",
			Delay: restartDelay, version: goVersion, start: kept(), upgrade: signalLeader(syscall.SIGHUP),
		},
		{
			Name: "kept-no-rescue", Title: "tablecloth, kept, no rescue", Setup: "tablecloth run --rescue=off; SIGHUP to the keeper",
			Delay: restartDelay, version: goVersion, start: kept("--rescue=off"), upgrade: signalLeader(syscall.SIGHUP),
		},
		{
			Name: "kept-2", Title: "tablecloth, kept, 2 workers", Setup: "tablecloth run --workers 2; SIGHUP to the keeper",
			Delay: restartDelay, version: goVersion, start: kept("--workers=2"), upgrade: signalLeader(syscall.SIGHUP),
		},
		{
			Name: "kept-gunicorn", Title: "tablecloth keeping gunicorn", Setup: "tablecloth run -- gunicorn, unchanged, 2 workers of 64 threads; SIGHUP to the keeper",
			Delay: restartDelay, NoUpgrade: true, version: command("gunicorn", "--version"), prepare: asset("app.py"), start: keptGunicorn, upgrade: signalLeader(syscall.SIGHUP),
			Skip: map[string]string{"panic": "a WSGI application has no such thing"},
		},
	}
}

func (i *Instance) serve(name string) []string {
	return []string{i.Bed.Self, "serve", name, "--addr", i.Addr, "--counter", i.counter()}
}

func program(name string) func(*Instance) (*exec.Cmd, error) {
	return func(i *Instance) (*exec.Cmd, error) {
		args := i.serve(name)
		return exec.Command(args[0], args[1:]...), nil
	}
}

func starter(i *Instance) (*exec.Cmd, error) {
	return exec.Command("start_server", append([]string{"--port=" + i.Addr, "--"}, i.serve("starter")...)...), nil
}

func (i *Instance) kept(flags, program []string) *exec.Cmd {
	args := append([]string{"run", "--control=none", "--kill-timeout=5s", "--listen=" + i.Addr}, flags...)
	return exec.Command(i.Bed.Tablecloth, append(append(args, "--"), program...)...)
}

func kept(flags ...string) func(*Instance) (*exec.Cmd, error) {
	return func(i *Instance) (*exec.Cmd, error) { return i.kept(flags, i.serve("tablecloth")), nil }
}

func keptGunicorn(i *Instance) (*exec.Cmd, error) { return i.kept(nil, gunicornArgs), nil }

// signalLeader sends s to the process that was started, whose PID stays.
func signalLeader(s syscall.Signal) func(*Instance) error {
	return func(i *Instance) error { return syscall.Kill(i.leader, s) }
}

// signalServing sends s to the process that answers now.
func signalServing(s syscall.Signal) func(*Instance) error {
	return func(i *Instance) error {
		pid := i.serving()
		if pid <= 0 {
			return errors.New("nobody answers")
		}
		return syscall.Kill(pid, s)
	}
}

// restart ends the process by s and starts it again, as a supervisor does.
func restart(s syscall.Signal) func(*Instance) error {
	return func(i *Instance) error {
		if err := syscall.Kill(i.leader, s); err != nil {
			return err
		}
		if !AwaitDeath([]int{i.leader}, 20*time.Second) {
			return errors.New("it doesn't end")
		}
		time.Sleep(i.Delay)
		return i.Start()
	}
}

func goVersion(*Bed) (string, error) {
	b, _ := debug.ReadBuildInfo()
	return b.GoVersion, nil
}

// module tells the version of a library that this program was built with.
func module(path string) func(*Bed) (string, error) {
	return func(*Bed) (string, error) {
		b, ok := debug.ReadBuildInfo()
		if !ok {
			return "", errors.New("built without module information")
		}
		for _, m := range b.Deps {
			if m.Path == path {
				return m.Version, nil
			}
		}
		return "", errors.New("not built in: " + path)
	}
}
