package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

const doctorLong = `Tell what is wrong with running services, or with a systemd unit.

SERVICE is one behind the control socket; without a name all are looked at: why
a drain doesn't end (which connections, since when, whose), why something wasn't
ready, whether descriptors run out, connects wait, a process hangs, or doesn't
run what lies on the disk.

UNIT is a file, with its drop-ins beside it, or the name of one that systemd has
loaded: what is wrong with it, and with the sockets that start it, for a service
that is to be replaced without downtime, and what to write instead. A name is a
unit's if it ends in .service, or no service has it.

Whether the service is kept or replaces itself is seen by "tablecloth run" in
ExecStart=; a program which is its own keeper needs --mode kept.

Exit status: 0 nothing is wrong; 1 something is; 2 usage; 3 no service runs.`

// finding is one thing that is wrong with a unit.
type finding struct {
	ID      string `json:"id"`
	Problem string `json:"problem"`
	// Instead are lines for a drop-in.
	Instead []string `json:"instead"`
	// Unit has the setting, where it isn't the service's own.
	Unit string `json:"unit,omitempty"`
}

type doctorOptions struct {
	mode        string
	stopTimeout time.Duration
	user        bool
	asJSON      bool
}

func newDoctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [SERVICE | UNIT]",
		Short: "Tell what is wrong with a running service, or with a systemd unit",
		Long:  doctorLong,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			done, there, err := doctorOfServices(cmd, args, o.asJSON)
			if done {
				return err
			}
			if o.mode != "" && o.mode != modeAlone && o.mode != modeKept {
				return usageError(cmd, fmt.Errorf("--mode %q: alone or kept", o.mode))
			}
			u, sockets, err := loadService(args[0], o.user)
			if err != nil {
				return nobody(args[0], there, err)
			}
			return tellFindings(cmd.OutOrStdout(), args[0], examine(u, sockets, o), o.asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.mode, "mode", "", "kept or alone (default: seen by ExecStart=)")
	config.AddSpan(f, &o.stopTimeout, true, "stop-timeout", "of the program or its keeper (default: seen by ExecStart=, else 8s)")
	f.BoolVar(&o.user, "user", false, "a unit of systemctl --user")
	f.BoolVar(&o.asJSON, "json", false, "print the findings as JSON")
	return cmd
}

// doctorOfServices looks at services, if they are meant; false: a unit is. there
// are the services that were found.
func doctorOfServices(cmd *cobra.Command, args []string, asJSON bool) (done bool, there []string, err error) {
	name := serviceArg(args)
	chosen := cmd.Flags().Changed("control")
	if isUnitName(name) || !chosen && isFile(name) {
		return false, nil, nil
	}
	client, err := connect(cmd)
	if err != nil {
		return chosen || name == "" || !systemdRuns(), nil, err
	}
	if name == "" {
		return true, nil, diagnose(cmd, client, nil, asJSON)
	}
	st, err := client.Status(cmd.Context())
	for _, s := range st.Services {
		there = append(there, s.Name)
	}
	if !chosen && (err != nil || !slices.Contains(there, name)) {
		return false, there, nil
	}
	return true, there, diagnose(cmd, client, args, asJSON)
}

func tellFindings(w io.Writer, name string, all []finding, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []finding{}
		}
		if err := printJSON(w, all); err != nil {
			return err
		}
	} else {
		describe(w, name, all)
	}
	if len(all) > 0 {
		return &exitError{status: exitFailed}
	}
	return nil
}

// describe tells findings for people: those of a unit together, in order.
func describe(w io.Writer, name string, all []finding) {
	if len(all) == 0 {
		fmt.Fprintln(w, "nothing is wrong with "+name)
	}
	for i, f := range all {
		fmt.Fprintf(w, "%s: %s\n", f.ID, f.Problem)
		for _, l := range f.Instead {
			fmt.Fprintf(w, "    %s\n", l)
		}
		fmt.Fprintln(w)
		if i == len(all)-1 || all[i+1].Unit != f.Unit {
			fmt.Fprintf(w, "systemctl edit %s takes these lines.\n", orElse(f.Unit, filepath.Base(name)))
			if i < len(all)-1 {
				fmt.Fprintln(w)
			}
		}
	}
}

// patient is what the checks are about.
type patient struct {
	unitFile
	sockets     []socketFile
	kept        bool
	typ         string
	stopTimeout time.Duration
}

// examine finds what is wrong.
func examine(u unitFile, sockets []socketFile, o doctorOptions) []finding {
	p := &patient{unitFile: u, sockets: sockets, typ: u.or("Service.Type", "simple"), stopTimeout: o.stopTimeout}
	start := u.last("Service.ExecStart")
	p.kept = o.mode == modeKept || o.mode == "" && isKeeper(start)
	if p.stopTimeout == 0 {
		p.stopTimeout = stopTimeoutOf(start)
	}
	if start == "" {
		return []finding{{ID: "ExecStart", Problem: "there is no ExecStart=: this is no unit of a service"}}
	}
	var all []finding
	for _, check := range []func(*patient) *finding{
		checkType, checkNotifyAccess, checkPIDFile, checkReload, checkBothReloads, checkStop, checkRestart, checkRestartSec,
		checkStartLimit, checkStore, checkKillMode, checkOOMPolicy, checkSendKill, checkTimeoutStop, checkTimeoutStart, checkWatchdog,
	} {
		if f := check(p); f != nil {
			all = append(all, *f)
		}
	}
	return append(all, checkSockets(p)...)
}

// isKeeper knows "tablecloth run" by what the program was built from, or by its
// name, as of tablecloth-1.2, where it isn't here.
func isKeeper(start string) bool {
	words := strings.Fields(strings.TrimLeft(start, "@-:+!"))
	if end := slices.Index(words, "--"); end >= 0 {
		words = words[:end]
	}
	if len(words) < 2 || !slices.Contains(words[1:], "run") {
		return false
	}
	program := strings.Trim(words[0], `"`)
	return strings.HasPrefix(filepath.Base(program), "tablecloth") || isThisCommand(program)
}

// isThisCommand: of any version, and by any name.
func isThisCommand(program string) bool {
	own, ok := debug.ReadBuildInfo()
	other, err := buildinfo.ReadFile(program)
	return ok && err == nil && other.Path == own.Path
}

func stopTimeoutOf(start string) time.Duration {
	words := strings.Fields(start)
	for i, w := range words {
		if w == "--" {
			break
		}
		value, ok := strings.CutPrefix(w, "--stop-timeout=")
		if w == "--stop-timeout" && i+1 < len(words) {
			value, ok = words[i+1], true
		}
		if d, err := time.ParseDuration(value); ok && err == nil {
			return d
		}
	}
	return keeper.DefaultStopTimeout
}

func (p *patient) notifies() bool { return strings.HasPrefix(p.typ, "notify") }

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
