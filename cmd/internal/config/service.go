package config

import (
	"strconv"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// ServiceOptions are what a service can be told, in the order in which a reader
// wants to know them.
var ServiceOptions = options[keeper.Service]{
	text(Option[keeper.Service]{Flag: "name", Field: "Name", // in a file it is the key
		Usage: "the service's `name` (default PROGRAM's base name)"},
		func(s *keeper.Service) *string { return &s.Name }),
	argv(Option[keeper.Service]{Key: "command", Field: "Command",
		Usage: "the program, found by $PATH, and its arguments; no shell reads it"},
		func(s *keeper.Service) *[]string { return &s.Command }, splitWords),
	texts(Option[keeper.Service]{Key: "listen", Flag: "listen", Short: "l", Field: "Listen", inFile: absoluteSocket,
		Usage: "bind and hold a socket: [NAME=]`ADDR`; repeatable"},
		func(s *keeper.Service) *[]string { return &s.Listen }),
	count(Option[keeper.Service]{Key: "workers", Flag: "workers", Short: "n", Field: "Workers", Default: "1",
		Usage: "processes that share the sockets"}, false,
		func(s *keeper.Service) *int { return &s.Workers }),
	boolean(Option[keeper.Service]{Key: "rolling", Flag: "rolling", Field: "Rolling",
		Usage: "upgrade workers one by one, and all back if one fails, instead of all at once"},
		func(s *keeper.Service) *bool { return &s.Rolling }),
	boolean(Option[keeper.Service]{Key: "serial_start", Flag: "serial-start", Field: "SerialStart",
		Usage: "start a worker when the one before it is ready"},
		func(s *keeper.Service) *bool { return &s.SerialStart }),
	text(Option[keeper.Service]{Key: "ready", Flag: "ready", Field: "Ready", Default: keeper.DefaultReady,
		Usage: "how readiness is known: `MODE` is auto, notify, listen, fd=N or delay=TIME"},
		func(s *keeper.Service) *string { return &s.Ready }),
	span(Option[keeper.Service]{Key: "ready_timeout", Flag: "ready-timeout", Field: "ReadyTimeout", Default: short(keeper.DefaultReadyTimeout),
		Usage: "kill a new generation that isn't ready by then"}, false,
		func(s *keeper.Service) *time.Duration { return &s.ReadyTimeout }),
	span(Option[keeper.Service]{Key: "kill_timeout", Flag: "kill-timeout", Field: "KillTimeout", Default: short(keeper.DefaultKillTimeout),
		Usage: "kill a replaced generation that hasn't ended by then"}, false,
		func(s *keeper.Service) *time.Duration { return &s.KillTimeout }),
	span(Option[keeper.Service]{Key: "stop_timeout", Flag: "stop-timeout", Field: "StopTimeout", Default: short(keeper.DefaultStopTimeout),
		Usage: "kill what hasn't ended by then at a stop"}, false,
		func(s *keeper.Service) *time.Duration { return &s.StopTimeout }),
	count(Option[keeper.Service]{Key: "max_draining", Flag: "max-draining", Field: "MaxDraining", Default: itoa(keeper.DefaultMaxDraining),
		Usage: "generations that may drain at once; an upgrade waits for one to end"}, false,
		func(s *keeper.Service) *int { return &s.MaxDraining }),
	stopSignal(Option[keeper.Service]{Key: "stop_signal", Flag: "stop-signal", Field: "StopSignal", Default: "TERM",
		Usage: "`signal` that ends a worker"}),
	text(Option[keeper.Service]{Key: "restart", Flag: "restart", Field: "Restart", Default: string(keeper.RestartAlways),
		Usage: "after a death: always, on-failure or no"},
		func(s *keeper.Service) *keeper.RestartPolicy { return &s.Restart }).
		oneOf(string(keeper.RestartAlways), string(keeper.RestartOnFailure), string(keeper.RestartNever)),
	text(Option[keeper.Service]{Key: "give_up", Flag: "give-up", Field: "GiveUp", Default: string(keeper.GiveUpPause),
		Usage: "after too many deaths: pause or exit"},
		func(s *keeper.Service) *keeper.GiveUpPolicy { return &s.GiveUp }).
		oneOf(string(keeper.GiveUpPause), string(keeper.GiveUpExit)),
	count(Option[keeper.Service]{Key: "max_deaths", Flag: "max-deaths", Field: "MaxDeaths", Default: itoa(keeper.DefaultMaxDeaths),
		Usage: "more in the death window: give up; -1: never"}, true,
		func(s *keeper.Service) *int { return &s.MaxDeaths }),
	span(Option[keeper.Service]{Key: "death_window", Flag: "death-window", Field: "DeathWindow", Default: short(keeper.DefaultDeathWindow),
		Usage: "in which so many deaths are too many"}, false,
		func(s *keeper.Service) *time.Duration { return &s.DeathWindow }),
	span(Option[keeper.Service]{Key: "give_up_pause", Flag: "give-up-pause", Field: "GiveUpPause", Default: short(keeper.DefaultGiveUpPause),
		Usage: "how long nothing is started then"}, false,
		func(s *keeper.Service) *time.Duration { return &s.GiveUpPause }),
	onOff(Option[keeper.Service]{Key: "handover", Flag: "handover", Field: "Handover", Default: string(keeper.On),
		Usage: "let idle connections move to the next generation: on or off"},
		func(s *keeper.Service) *keeper.Switch { return &s.Handover }),
	onOff(Option[keeper.Service]{Key: "rescue", Flag: "rescue", Field: "Rescue", Default: string(keeper.On),
		Usage: "when a worker dies, let its connections live on, and answer its requests: on or off"},
		func(s *keeper.Service) *keeper.Switch { return &s.Rescue }),
	span(Option[keeper.Service]{Key: "rescue_timeout", Flag: "rescue-timeout", Field: "RescueTimeout", Default: short(keeper.DefaultRescueTimeout),
		Usage: "how long what a dead worker had open may stay so"}, false,
		func(s *keeper.Service) *time.Duration { return &s.RescueTimeout }),
	file(Option[keeper.Service]{Key: "crash_page", Flag: "crash-page", Field: "CrashPage",
		Usage: "`file` with the body of the 500s and 503s for the requests of a dead worker"},
		func(s *keeper.Service) *string { return &s.CrashPage }),
	argv(Option[keeper.Service]{Key: "on_crash", Flag: "on-crash", Field: "OnCrash",
		Usage: "`command` to run (by sh) after each death, with a report as JSON on stdin"},
		func(s *keeper.Service) *[]string { return &s.OnCrash }, byShell),
	span(Option[keeper.Service]{Key: "watchdog", Flag: "watchdog", Field: "Watchdog",
		Usage: "kill a worker which has sent WATCHDOG=1 and then doesn't for so long"}, true,
		func(s *keeper.Service) *time.Duration { return &s.Watchdog }),
	assignments(Option[keeper.Service]{Key: "environment", Flag: "env", Short: "e", Field: "Environment",
		Usage: "`KEY=VALUE` for the program; repeatable"},
		func(s *keeper.Service) *[]string { return &s.Environment }),
	file(Option[keeper.Service]{Key: "env_file", Flag: "env-file", Field: "EnvFile",
		Usage: "`file` of KEY=VALUE lines, read again at each upgrade"},
		func(s *keeper.Service) *string { return &s.EnvFile }),
	file(Option[keeper.Service]{Key: "directory", Flag: "chdir", Field: "Directory",
		Usage: "`directory` to run in"},
		func(s *keeper.Service) *string { return &s.Directory }),
	text(Option[keeper.Service]{Key: "user", Flag: "user", Short: "u", Field: "User",
		Usage: "`user` to run as"},
		func(s *keeper.Service) *string { return &s.User }),
	text(Option[keeper.Service]{Key: "group", Flag: "group", Short: "g", Field: "Group",
		Usage: "`group` to run as"},
		func(s *keeper.Service) *string { return &s.Group }),
	mask(Option[keeper.Service]{Key: "umask", Flag: "umask", Field: "Umask",
		Usage: "file mode creation mask, `octal`"},
		func(s *keeper.Service) **int { return &s.Umask }),
	assignments(Option[keeper.Service]{Key: "limits", Flag: "limit", Field: "Limits",
		Usage: "resource limit: `NAME=SOFT[:HARD]`, nofile=65536; repeatable"},
		func(s *keeper.Service) *[]string { return &s.Limits }),
	onOff(Option[keeper.Service]{Key: "foreign", Flag: "foreign", Field: "Foreign", Default: string(keeper.On),
		Usage: "pass sockets as Server::Starter and einhorn do, too: on or off"},
		func(s *keeper.Service) *keeper.Switch { return &s.Foreign }),
	text(Option[keeper.Service]{Key: "capture", Flag: "capture", Field: "Capture", Default: keeper.DefaultCapture,
		Usage: "output that passes through the keeper, for reports: stderr, all or none"},
		func(s *keeper.Service) *string { return &s.Capture }).oneOf("stderr", "all", "none"),
	file(Option[keeper.Service]{Key: "worker_pidfile", Flag: "worker-pidfile", Field: "WorkerPIDFile",
		Usage: "`file` for the PID of the worker that serves"},
		func(s *keeper.Service) *string { return &s.WorkerPIDFile }),
}

// argv makes an option of a command line, of which a text is made by split.
func argv(o Option[keeper.Service], field func(*keeper.Service) *[]string, split func(string) ([]string, error)) *Option[keeper.Service] {
	o.shape, o.typ = command, "string"
	o.set = func(s *keeper.Service, line string) error {
		words, err := split(line)
		*field(s) = words
		return err
	}
	o.setAll = func(s *keeper.Service, words []string) error {
		if len(words) == 0 || words[0] == "" {
			return wrong("", "no program")
		}
		*field(s) = words
		return nil
	}
	return &o
}

// absoluteSocket: the keeper may be started anywhere.
func absoluteSocket(s string) error {
	_, path, found := strings.Cut(s, "unix")
	if _, path, ok := strings.Cut(path, ":"); found && ok && path != "" && path[0] != '/' && path[0] != '@' {
		return wrong("write the whole path", "%q: the path of a socket begins with /", s)
	}
	return nil
}

func byShell(line string) ([]string, error) { return []string{"/bin/sh", "-c", line}, nil }

func stopSignal(o Option[keeper.Service]) *Option[keeper.Service] {
	o.typ = "string"
	o.set = func(s *keeper.Service, name string) (err error) {
		s.StopSignal, err = parseSignal(name)
		return err
	}
	return &o
}

func itoa(n int) string { return strconv.Itoa(n) }

// short is 1m, not 1m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}
