package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/diag"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// ailment is one thing that is wrong with a running service.
type ailment struct {
	ID      string   `json:"id"` // "drain", "ready", "descriptors", …
	Service string   `json:"service"`
	PID     int      `json:"pid,omitempty"`
	Problem string   `json:"problem"`
	Details []string `json:"details,omitempty"`
	Advice  string   `json:"advice,omitempty"`
}

// ward is what is known of the services of one control socket.
type ward struct {
	status  control.Status
	now     time.Time
	sockets []diag.Socket
	owners  func() map[uint64]int // of sockets; looked up once, if need be
	look    func(pid int) (*diag.Process, error)
	changed func(pid int, path string) (bool, error)
	blind   error // why not everything could be seen
}

// examineServices looks at those with these names, or at all.
func (w *ward) examine(names []string) []ailment {
	var all []ailment
	for _, s := range w.status.Services {
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		for _, check := range []func(*ward, control.Service) []ailment{
			checkState, checkWorkers, checkReadiness, checkDrain, checkLife, checkDescriptors, checkBacklog, checkBinary, checkOutput,
		} {
			for _, a := range check(w, s) {
				a.Service = s.Name
				all = append(all, a)
			}
		}
	}
	return all
}

// process looks at one, and remembers if it may not.
func (w *ward) process(pid int) *diag.Process {
	p, err := w.look(pid)
	if err == nil {
		return p
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		w.blind = err
	}
	return nil
}

// connections are those that a process has.
func (w *ward) connections(pid int) []diag.Socket {
	p := w.process(pid)
	if p == nil {
		return nil
	}
	var mine []diag.Socket
	for _, s := range w.sockets {
		if p.Inodes[s.Inode] && !s.Listening {
			mine = append(mine, s)
		}
	}
	slices.SortStableFunc(mine, func(a, b diag.Socket) int { return int(max(a.Received, 0) - max(b.Received, 0)) })
	slices.Reverse(mine) // the one that has been quiet for longest first
	return mine
}

// whose names the process at the other end of a connection, where it runs here.
// The address alone isn't enough: connections to different places may have the
// same one.
func (w *ward) whose(peer string, leadsHere func(diag.Socket) bool) string {
	for _, s := range w.sockets {
		if s.Local.String() != peer || s.Inode == 0 || s.Listening || !leadsHere(s) {
			continue
		}
		if pid := w.owners()[s.Inode]; pid > 0 {
			return fmt.Sprintf(" (pid %d, %s)", pid, diag.Name(pid))
		}
	}
	return ""
}

func eachWorker(s control.Service, f func(control.Generation, control.Worker)) {
	for _, g := range s.Generations {
		for _, w := range g.Workers {
			f(g, w)
		}
	}
}

// diagnose asks a control socket for the services, and looks at them.
func diagnose(cmd *cobra.Command, client *control.Client, names []string, asJSON bool) error {
	st, err := (&statusOptions{names: names}).ask(cmd.Context(), client)
	if err != nil {
		return err
	}
	w := newWard(st)
	all := w.examine(nil)
	if asJSON {
		if all == nil {
			all = []ailment{}
		}
		if err := printJSON(cmd.OutOrStdout(), all); err != nil {
			return err
		}
	} else {
		tellAilments(cmd.OutOrStdout(), st, all)
	}
	if w.blind != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "tablecloth: hint: not everything could be seen (%v): as root, or as the services' user, there is more\n", w.blind)
	}
	if len(all) > 0 {
		return &exitError{status: exitFailed}
	}
	return nil
}

func tellAilments(out io.Writer, st control.Status, all []ailment) {
	for i, a := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		columns, _ := terminalSize(out)
		for i, l := range wrap(strings.Fields(printable(a.Service+": "+a.Problem)), " ", columns-4) {
			fmt.Fprintln(out, strings.Repeat(" ", min(4*i, 4))+l)
		}
		for _, d := range a.Details {
			fmt.Fprintf(out, "      %s\n", printable(d))
		}
		if a.Advice != "" {
			for i, l := range wrap(strings.Fields(printable(a.Advice)), " ", columns-8) {
				fmt.Fprintln(out, []string{"    > ", "      "}[min(i, 1)]+l)
			}
		}
	}
	if len(all) == 0 {
		var names []string
		for _, s := range st.Services {
			names = append(names, orElse(s.Name, "the service"))
		}
		fmt.Fprintln(out, "nothing is wrong with "+strings.Join(names, ", "))
	}
}
