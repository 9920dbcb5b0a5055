package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

const doctorLong = `Tell what is wrong with running services, or with a systemd unit.

SERVICE is one behind the control socket; without a name all are looked at: why
a drain doesn't end (which connections, since when, whose), why something wasn't
ready, whether descriptors run out, connects wait, a process hangs, or doesn't
run what lies on the disk.

UNIT is a file, with its drop-ins beside it, or the name of one that systemd has
loaded: what is wrong with it for a service that is to be replaced without
downtime, and what to write instead. A name is a unit's if it ends in .service,
or no service has it.

Whether the service is kept or replaces itself is seen by "tablecloth run" in
ExecStart=; a program which is its own keeper needs --mode kept.

Exit status: 0 nothing is wrong; 1 something is; 2 usage.`

// finding is one thing that is wrong with a unit.
type finding struct {
	ID      string `json:"id"`
	Problem string `json:"problem"`
	// Instead are lines for a drop-in.
	Instead []string `json:"instead"`
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
			if done, err := doctorOfServices(cmd, args, o.asJSON); done {
				return err
			}
			if o.mode != "" && o.mode != modeAlone && o.mode != modeKept {
				return usageError(cmd, fmt.Errorf("--mode %q: alone or kept", o.mode))
			}
			u, err := loadUnit(args[0], o.user)
			if err != nil {
				return err
			}
			return tellFindings(cmd.OutOrStdout(), args[0], examine(u, o), o.asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.mode, "mode", "", "kept or alone (default: seen by ExecStart=)")
	f.DurationVar(&o.stopTimeout, "stop-timeout", 0, "of the program or its keeper (default: seen by ExecStart=, else 8s)")
	f.BoolVar(&o.user, "user", false, "a unit of systemctl --user")
	f.BoolVar(&o.asJSON, "json", false, "print the findings as JSON")
	return cmd
}

// doctorOfServices looks at services, if they are meant; false: a unit is.
func doctorOfServices(cmd *cobra.Command, args []string, asJSON bool) (bool, error) {
	name := serviceArg(args)
	chosen := cmd.Flags().Changed("control")
	if strings.ContainsRune(name, '/') || strings.HasSuffix(name, ".service") {
		return false, nil
	}
	if info, err := os.Stat(name); !chosen && err == nil && info.Mode().IsRegular() {
		return false, nil
	}
	client, err := connect(cmd)
	if err != nil {
		return chosen || name == "", err
	}
	if name == "" {
		return true, diagnose(cmd, client, nil, asJSON)
	}
	st, err := client.Status(cmd.Context())
	if !chosen && (err != nil || !slices.ContainsFunc(st.Services, func(s control.Service) bool { return s.Name == name })) {
		return false, nil
	}
	return true, diagnose(cmd, client, args, asJSON)
}

// loadUnit reads a file, or what systemd has loaded.
func loadUnit(name string, user bool) (unitFile, error) {
	if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
		return readUnitFile(name)
	} else if strings.Contains(name, "/") {
		if err == nil {
			err = errors.New("no file")
		}
		return nil, fail(exitUsage, "name a file, or a unit that is loaded", "%s: %w", name, err)
	}
	args := []string{"cat", "--no-pager", "--", name}
	if user {
		args = append([]string{"--user"}, args...)
	}
	var complaint bytes.Buffer
	cmd := exec.Command("systemctl", args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fail(exitUsage, "name a file, or a unit that is loaded: systemctl list-units",
			"systemd has no unit %s: %w %s", name, err, firstLine(complaint.String()))
	}
	u := unitFile{}
	u.read(bytes.NewReader(out))
	return u, nil
}

func tellFindings(w io.Writer, name string, all []finding, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []finding{}
		}
		if err := printJSON(w, all); err != nil {
			return err
		}
	}
	for i, f := range all {
		if asJSON {
			break
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s: %s\n", f.ID, f.Problem)
		for _, l := range f.Instead {
			fmt.Fprintf(w, "    %s\n", l)
		}
	}
	if len(all) > 0 {
		if !asJSON {
			fmt.Fprintf(w, "\nsystemctl edit %s takes these lines.\n", name)
		}
		return &exitError{status: exitFailed}
	}
	if !asJSON {
		fmt.Fprintln(w, "nothing is wrong with "+name)
	}
	return nil
}

// patient is what the checks are about.
type patient struct {
	unitFile
	kept        bool
	typ         string
	stopTimeout time.Duration
}

// examine finds what is wrong.
func examine(u unitFile, o doctorOptions) []finding {
	p := &patient{unitFile: u, typ: u.or("Service.Type", "simple"), stopTimeout: o.stopTimeout}
	start := u.last("Service.ExecStart")
	p.kept = o.mode == modeKept || o.mode == "" && isKeeper(start)
	if p.stopTimeout == 0 {
		p.stopTimeout = stopTimeoutOf(start)
	}
	if start == "" {
		return []finding{{"ExecStart", "there is no ExecStart=: this is no unit of a service", nil}}
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
	return all
}

// isKeeper knows "tablecloth run" by its name, as of tablecloth-1.2.
func isKeeper(start string) bool {
	words := strings.Fields(strings.TrimLeft(start, "@-:+!"))
	return len(words) > 1 && strings.HasPrefix(filepath.Base(strings.Trim(words[0], `"`)), "tablecloth") && words[1] == "run"
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
