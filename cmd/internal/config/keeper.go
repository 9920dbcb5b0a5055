package config

import (
	"os"
	"reflect"
	"strings"
	"syscall"

	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// KeeperOptions are what the keeper itself can be told.
var KeeperOptions = options[keeper.Config]{
	file(Option[keeper.Config]{Key: "pidfile", Flag: "pidfile", Field: "PIDFile",
		Usage: "`file` for the keeper's PID, which never changes"},
		func(c *keeper.Config) *string { return &c.PIDFile }),
	control(),
	text(Option[keeper.Config]{Key: "control_group", Flag: "control-group", Field: "ControlGroup",
		Usage: "`group` whose members may use the control socket too"},
		func(c *keeper.Config) *string { return &c.ControlGroup }),
	file(Option[keeper.Config]{Key: "status_file", Flag: "status-file", Field: "StatusFile",
		Usage: "`file` that always has the status in it, as JSON"},
		func(c *keeper.Config) *string { return &c.StatusFile }),
	text(Option[keeper.Config]{Key: "metrics", Flag: "metrics", Field: "Observe",
		Usage: "answer /metrics, /healthz and /readyz at this `ADDR`, HOST:PORT"},
		func(c *keeper.Config) *string { return &c.Observe }),
	forward(Option[keeper.Config]{Key: "forward", Flag: "forward", Field: "Forward", Default: "USR1, WINCH, QUIT",
		Usage: "`signals` that are passed on to workers"}),
	text(Option[keeper.Config]{Key: "log_format", Flag: "log-format", Field: "Output.Format", Default: keeper.FormatText,
		Usage: "of what the workers and the keeper write: text or json"},
		func(c *keeper.Config) *string { return &c.Output.Format }).oneOf(keeper.FormatText, keeper.FormatJSON),
	boolean(Option[keeper.Config]{Key: "log_prefix", Flag: "log-prefix", Field: "Output.Prefix",
		Usage: "begin each line with service, generation and pid"},
		func(c *keeper.Config) *bool { return &c.Output.Prefix }),
	file(Option[keeper.Config]{Key: "log_file", Flag: "log-file", Field: "Output.File",
		Usage: "`file` for all of it; USR1 opens it anew"},
		func(c *keeper.Config) *string { return &c.Output.File }),
	boolean(Option[keeper.Config]{Key: "quiet", Flag: "quiet", Short: "q", Field: "Output.Quiet",
		Usage: "log only what went wrong"},
		func(c *keeper.Config) *bool { return &c.Output.Quiet }),
}

// control is a path, or "none". Its flag is that of all commands.
func control() *Option[keeper.Config] {
	o := file(Option[keeper.Config]{Key: "control", Field: "Control",
		Usage: "`path` of the control socket; none: there is none"},
		func(c *keeper.Config) *string { return &c.Control })
	return o
}

func forward(o Option[keeper.Config]) *Option[keeper.Config] {
	o.shape, o.typ = many, "strings"
	o.set = func(c *keeper.Config, name string) error {
		if c.Forward == nil {
			c.Forward = []os.Signal{}
		}
		if name == "" || name == "none" {
			return nil
		}
		sig, err := parseSignal(name)
		if err != nil {
			return err
		}
		if err := keepable(name, sig); err != nil {
			return err
		}
		c.Forward = append(c.Forward, sig)
		return nil
	}
	o.reset = func(c *keeper.Config) { c.Forward = []os.Signal{} }
	return &o
}

// keepable reports whether a keeper can pass a signal on: that it gets it, and
// has no use for it itself.
func keepable(name string, sig os.Signal) error {
	switch sig {
	case syscall.Signal(9), syscall.Signal(19): // KILL and STOP: Windows has no name for the latter
		return wrong("", "%q can't be caught, and so not be passed on", name)
	case syscall.SIGHUP:
		return wrong("", "%q isn't passed on: it upgrades", name)
	case syscall.SIGTERM, syscall.SIGINT:
		return wrong("", "%q isn't passed on: it stops all", name)
	}
	return nil
}

// Changed names an option of the keeper's in which two configurations differ; "":
// none.
func Changed(a, b *keeper.Config) string {
	for _, o := range KeeperOptions {
		if !reflect.DeepEqual(field(a, o.Field).Interface(), field(b, o.Field).Interface()) {
			return o.Key
		}
	}
	return ""
}

func field(c *keeper.Config, path string) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for name := range strings.SplitSeq(path, ".") {
		v = v.FieldByName(name)
	}
	return v
}
