package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

const unitLong = `Print a systemd unit for PROGRAM, with a word on each setting that matters.

--mode kept: the unit starts the keeper (tablecloth run), which starts PROGRAM.
It works for any program, and survives whatever befalls PROGRAM.
--mode alone: the unit starts PROGRAM, which replaces itself. For programs that
use this library.

With both, "systemctl reload" upgrades, waits for the outcome, and fails if the
upgrade fails.

ADDR is as for tablecloth run. With --socket-unit systemd binds it, and holds it
while the service is stopped. Without, the keeper or the program itself does.

What is printed can be checked by systemd-analyze verify, and a unit that was
changed by tablecloth doctor.`

// unitOptions are what a unit is made of.
type unitOptions struct {
	Mode         string
	Name         string
	Listen       []string
	SocketUnit   bool
	Hardened     bool
	User         bool   // for the manager of a user
	RunAs        string // user[:group]
	ReadyTimeout time.Duration
	KillTimeout  time.Duration
	StopTimeout  time.Duration
	output       string
}

// Modes of a unit.
const (
	modeAlone = "alone"
	modeKept  = "kept"
)

func newUnitCommand() *cobra.Command {
	var o unitOptions
	cmd := &cobra.Command{
		Use:   "unit [flags] -- PROGRAM [ARG...]",
		Short: "Print a systemd unit for a program",
		Long:  unitLong,
		Example: `  tablecloth unit --listen 8080 --hardened -- /usr/local/bin/app
  tablecloth unit --mode alone --output /etc/systemd/system -- /usr/bin/app -v`,
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := newUnit(o, args)
			if err != nil {
				return usageError(cmd, err)
			}
			return u.put(cmd)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().SortFlags = false
	o.flags(cmd.Flags())
	return cmd
}

func (o *unitOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.Mode, "mode", modeKept, "kept: under the keeper; alone: PROGRAM replaces itself")
	f.StringVar(&o.Name, "name", "", "the unit's `name` (default PROGRAM's base name)")
	f.StringArrayVarP(&o.Listen, "listen", "l", nil, "a socket to be held: [NAME=]`ADDR`; repeatable")
	f.BoolVar(&o.SocketUnit, "socket-unit", false, "have systemd bind the sockets of --listen: print units for them too")
	f.BoolVar(&o.Hardened, "hardened", false, "let the service do nothing but serve, as a user of its own")
	f.StringVar(&o.RunAs, "run-as", "", "`USER[:GROUP]` to run as; dynamic: one that systemd makes")
	f.BoolVar(&o.User, "user", false, "for systemctl --user: a service of the user who starts it")
	o.ReadyTimeout, o.KillTimeout, o.StopTimeout = keeper.DefaultReadyTimeout, keeper.DefaultKillTimeout, keeper.DefaultStopTimeout
	config.AddSpan(f, &o.ReadyTimeout, false, "ready-timeout", "as of the keeper, or of the program")
	config.AddSpan(f, &o.KillTimeout, false, "kill-timeout", "as of the keeper, or of the program")
	config.AddSpan(f, &o.StopTimeout, false, "stop-timeout", "as of the keeper, or of the program")
	f.StringVarP(&o.output, "output", "o", "", "write files into this `directory` instead of printing them")
}

// unit is what the templates show.
type unit struct {
	unitOptions
	Kept, Dynamic bool
	Group         string
	AtHome        bool
	LowPort       bool
	Path          string // where such units lie
	Made          string // by this command
	Start, Reload string // command lines
	Stop          string
	StartTimeout  time.Duration
	KillAfter     time.Duration
	Sockets       []*socketUnit
}

// unitName is what systemd takes for a name without a type (systemd.unit(5)).
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]{1,200}(@[A-Za-z0-9:_.\\-]*)?$`)

func newUnit(o unitOptions, args []string) (*unit, error) {
	if len(args) == 0 {
		return nil, errors.New("no PROGRAM: tablecloth unit -- PROGRAM [ARG...]")
	}
	program, err := absolute(args[0])
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = filepath.Base(program)
	}
	o.Name = strings.TrimSuffix(o.Name, ".service")
	switch {
	case !unitName.MatchString(o.Name):
		return nil, fmt.Errorf("%q can't be the name of a unit: choose one with --name", o.Name)
	case o.Mode != modeAlone && o.Mode != modeKept:
		return nil, fmt.Errorf("--mode %q: alone or kept", o.Mode)
	case o.User && o.RunAs != "":
		return nil, errors.New("--user and --run-as exclude each other: a user's own services run as that user")
	case o.SocketUnit && len(o.Listen) == 0:
		return nil, errors.New("--socket-unit needs --listen: which sockets?")
	case o.Mode == modeAlone && len(o.Listen) > 0 && !o.SocketUnit:
		return nil, errors.New("--listen: without --socket-unit a program that is alone binds its sockets itself")
	}
	u := &unit{unitOptions: o, Kept: o.Mode == modeKept, Path: "/etc/systemd/system", Made: made(args, o)}
	if o.User {
		u.Path = "~/.config/systemd/user"
	}
	if u.RunAs == "dynamic" || u.RunAs == "" && u.Hardened && !u.User {
		u.Dynamic, u.RunAs = true, ""
	}
	u.RunAs, u.Group, _ = strings.Cut(u.RunAs, ":")
	u.AtHome = strings.HasPrefix(program, "/home/") || strings.HasPrefix(program, "/root/")
	// A reload may wait for the end of the drain before, then for readiness.
	u.StartTimeout = o.ReadyTimeout + o.KillTimeout + 10*time.Second
	u.KillAfter = o.StopTimeout + 7*time.Second
	if err := u.takeListen(); err != nil {
		return nil, err
	}
	u.compose(append([]string{program}, args[1:]...))
	return u, nil
}

func absolute(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		// It may be for another machine.
		if filepath.IsAbs(program) {
			return filepath.Clean(program), nil
		}
		return "", fmt.Errorf("%w: a unit needs a program by its absolute path", err)
	}
	return filepath.Abs(path)
}

// made is the command line that makes the same unit again.
func made(args []string, o unitOptions) string {
	words := []string{"tablecloth", "unit", "--mode", o.Mode}
	if o.Name != filepath.Base(args[0]) {
		words = append(words, "--name", o.Name)
	}
	for _, l := range o.Listen {
		words = append(words, "--listen", l)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"--socket-unit", o.SocketUnit}, {"--hardened", o.Hardened}, {"--user", o.User}} {
		if f.set {
			words = append(words, f.name)
		}
	}
	if o.RunAs != "" {
		words = append(words, "--run-as", o.RunAs)
	}
	words = append(words, timeoutFlags(o)...)
	words = append(append(words, "--"), args...)
	for i, w := range words {
		words[i] = quoteShell(w)
	}
	return strings.Join(words, " ")
}

// quoteShell writes a word for a comment: on one line.
func quoteShell(w string) string {
	if w != "" && !strings.ContainsAny(w, " \t\n\"'\\$&|;<>()*?[]#~`!{}") {
		return w
	}
	return "'" + strings.NewReplacer("'", `'\''`, "\n", " ").Replace(w) + "'"
}

// ownPath is where this command is installed.
func ownPath() string {
	path, err := os.Executable()
	if err != nil {
		return "/usr/local/bin/tablecloth"
	}
	return path
}

// compose makes the command lines.
func (u *unit) compose(program []string) {
	self := quoteUnit(ownPath())
	control := "--control=%t/tablecloth/" + u.Name + "/control"
	reload := []string{"upgrade"}
	if u.Kept {
		run := []string{self, "run", control}
		if u.Name != filepath.Base(program[0]) {
			run = append(run, "--name="+quoteUnit(u.Name))
		}
		for _, l := range u.Listen {
			run = append(run, "--listen="+quoteUnit(l))
		}
		run = append(run, timeoutFlags(u.unitOptions)...)
		u.Start = strings.Join(append(run, "--"), " ") + " " + quoteAll(program)
		reload = append(reload, control)
	} else {
		u.Start = quoteAll(program)
	}
	// It gives up before systemd does, and takes the upgrade back.
	reload = append(reload, fmt.Sprintf("--timeout=%ds", int((u.StartTimeout-5*time.Second).Seconds())))
	u.Reload = self + " " + strings.Join(reload, " ")
	// It may find nothing to stop: after an end of the program's own.
	u.Stop = fmt.Sprintf("-%s stop --timeout=%ds", self, int((u.KillAfter - 3*time.Second).Seconds()))
}

// timeoutFlags are those that differ from run's own.
func timeoutFlags(o unitOptions) (flags []string) {
	for _, t := range []struct {
		flag       string
		is, unless time.Duration
	}{
		{"ready", o.ReadyTimeout, keeper.DefaultReadyTimeout},
		{"kill", o.KillTimeout, keeper.DefaultKillTimeout},
		{"stop", o.StopTimeout, keeper.DefaultStopTimeout},
	} {
		if t.is != t.unless {
			flags = append(flags, fmt.Sprintf("--%s-timeout=%v", t.flag, t.is))
		}
	}
	return flags
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quoteUnit(w)
	}
	return strings.Join(quoted, " ")
}

// quoteUnit writes a word so that a command line of a unit means it: there are
// specifiers, variables and quotes (systemd.service(5), "Command lines").
func quoteUnit(w string) string {
	w = strings.NewReplacer("%", "%%", "$", "$$").Replace(w)
	if w != "" && !strings.ContainsAny(w, " \t\n\"'\\;") {
		return w
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(w) + `"`
}

//go:embed unit.tmpl
var unitText string

var unitTemplate = template.Must(template.New("").Funcs(template.FuncMap{
	"seconds": func(d time.Duration) int { return int((d + time.Second - 1) / time.Second) },
}).Parse(unitText))

// put prints the units, or writes them into files.
func (u *unit) put(cmd *cobra.Command) error {
	files := []struct{ name, text string }{{name: u.Name + ".service", text: u.render("service", nil)}}
	for _, s := range u.Sockets {
		files = append(files, struct{ name, text string }{s.Name + ".socket", u.render("socket", s)})
	}
	for i, f := range files {
		if u.output == "" {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout())
			}
			if _, err := fmt.Fprint(cmd.OutOrStdout(), f.text); err != nil {
				return err
			}
			continue
		}
		path := filepath.Join(u.output, f.name)
		err := writeNew(path, f.text)
		if errors.Is(err, os.ErrExist) {
			return fail(exitRefused, "remove it, or choose another --name", "there is a file %s already", path)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), path)
	}
	return nil
}

func (u *unit) render(name string, s *socketUnit) string {
	var b bytes.Buffer
	data := struct {
		*unit
		Socket *socketUnit
	}{u, s}
	if err := unitTemplate.ExecuteTemplate(&b, name, data); err != nil {
		panic(err) // of a template that is part of this program
	}
	return b.String()
}
