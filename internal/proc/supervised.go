package proc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Supervised returns the name of whoever started this process if that can't
// follow a service whose PID changes: it would end, or start the service again,
// when the first process ends. "PID 1" means this process itself: with it all
// its descendants end. "": nothing speaks against a changing PID.
//
// To be asked in the first process of a service only: the parent of a later
// one, once its predecessor has ended, tells nothing.
func Supervised() string {
	if os.Getpid() == 1 {
		return "PID 1"
	}
	parent := os.Getppid()
	name, args := describe(parent)
	return supervisor(name, args, parent == 1)
}

// follower holds processes that watch the one that they have started, wherever
// they run.
var follower = []string{
	"runsv", "s6-supervise", "supervise", "perpd", "service-manager", "dinit",
	"supervise-daemo", "supervise-daemon", // the kernel cuts names at 15 bytes
	"supervisord", "circusd", "pm2",
	"docker-init", "tini", "tini-static", "dumb-init", "catatonit", "pid1", "podman-init",
	"foreman", "overmind", "hivemind", "goreman", "honcho", "forego", "shoreman",
	"einhorn", "start_server",
}

// shells are followers where they are PID 1, as the entry point of a container.
var shells = []string{"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox"}

// interpreters run a supervisor that is named by their first argument.
var interpreters = []string{"python", "ruby", "perl", "node", "pypy"}

// supervisor decides by the parent's name and arguments.
func supervisor(name string, args []string, init bool) string {
	if strings.HasPrefix(name, "PM2 ") {
		return "pm2"
	}
	for _, candidate := range append([]string{name}, programs(args)...) {
		if slices.Contains(follower, candidate) {
			return candidate
		}
		if init && slices.Contains(shells, candidate) && !realInit(args) {
			return candidate
		}
	}
	return ""
}

// realInit: busybox as the init of a machine, rather than its shell.
func realInit(args []string) bool {
	return len(args) > 0 && strings.HasSuffix(args[0], "init")
}

// programs returns the names that a command line gives to what it runs.
func programs(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	// A login shell's name has a dash in front; a process may put its title here.
	name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(args[0]), "-"), " ")
	name = strings.TrimSuffix(name, ":")
	names := []string{name}
	interpreted := slices.ContainsFunc(interpreters, func(i string) bool { return strings.HasPrefix(name, i) })
	if interpreted && len(args) > 1 && !strings.HasPrefix(args[1], "-") {
		names = append(names, filepath.Base(args[1]))
	}
	return names
}
