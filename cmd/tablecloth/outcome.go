package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// tellOutcome prints how an upgrade ended. What it returns has the exit status
// that belongs to it. client may be nil.
func tellOutcome(cmd *cobra.Command, client *control.Client, out control.Outcome, asJSON bool) error {
	if asJSON {
		if err := printOutcome(cmd, out); err != nil {
			return err
		}
	}
	if !asJSON {
		tellChanges(cmd.OutOrStdout(), out.Changes)
	}
	all := out.Services
	if len(all) == 0 {
		all = []control.Outcome{out}
	}
	var worst error
	for _, o := range all {
		if o.Result != control.Ready {
			worst = tellFailure(cmd, client, "upgrade", o)
		} else if !asJSON {
			fmt.Fprintln(cmd.OutOrStdout(), named(o, successLine(o))+unconfirmed(o, ": the program does not say when it is ready"))
		}
	}
	if out.Result != control.Ready && worst == nil { // none of the services is to blame
		worst = tellFailure(cmd, client, "upgrade", out)
	}
	return worst
}

// printOutcome prints an outcome as JSON. Where that can't be done nothing has
// failed but the telling: the upgrade may have succeeded.
func printOutcome(cmd *cobra.Command, out control.Outcome) error {
	if err := printJSON(cmd.OutOrStdout(), out); err != nil {
		return fail(exitUnknown, "see what came of it: tablecloth status", "the outcome can't be printed: %w", err)
	}
	return nil
}

// tellFailure says why what was asked of a service has failed. What it returns
// has the exit status only.
func tellFailure(cmd *cobra.Command, client *control.Client, what string, out control.Outcome) error {
	status, hint := exitFailed, out.Hint
	if out.Result == control.Refused {
		status = exitRefused
	} else if nothingServes(cmd.Context(), client, out) {
		status, hint = exitGaveUp, orElse(hint, "nothing serves: see tablecloth status, and upgrade to a version that works")
	}
	complain(cmd.ErrOrStderr(), named(out, failureLine(what, out)), "")
	printIndented(cmd.ErrOrStderr(), out.Output)
	if hint = orElse(hint, defaultHint(out)); hint != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "tablecloth: hint: %s\n", hint)
	}
	return &exitError{status: status}
}

// tellChanges tells what a new configuration has changed.
func tellChanges(w io.Writer, c *control.Changes) {
	if c == nil {
		return
	}
	for _, part := range []struct {
		what  string
		names []string
	}{{"added", c.Added}, {"replaced", c.Replaced}, {"scaled", c.Scaled}, {"adjusted", c.Adjusted}, {"removed", c.Removed}, {"not touched", c.Unchanged}} {
		if len(part.names) > 0 {
			fmt.Fprintf(w, "%-12s %s\n", part.what+":", strings.Join(part.names, ", "))
		}
	}
}

// named puts the service before what is said of it.
func named(out control.Outcome, line string) string {
	if out.Service == "" {
		return line
	}
	return out.Service + ": " + line
}

func successLine(out control.Outcome) string { return phrase.Success(out) }

func unconfirmed(out control.Outcome, why string) string { return phrase.Unconfirmed(out, why) }

func failureLine(what string, out control.Outcome) string { return phrase.Failure(what, out) }

// outcomeLine is for where the service is known already.
func outcomeLine(out control.Outcome) string { return phrase.Outcome(out) }

// defaultHint says who serves after a failure, where the service itself has no
// better advice.
func defaultHint(out control.Outcome) string {
	if out.Generation == 0 || out.PID == 0 {
		return ""
	}
	return fmt.Sprintf("generation %d (pid %d) still serves", out.Generation, out.PID)
}

// nothingServes asks whether anything serves after an upgrade has failed. Where
// nothing did before, the keeper may be at its next start already.
func nothingServes(ctx context.Context, client *control.Client, out control.Outcome) bool {
	if client == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	st, err := client.Status(ctx)
	if err != nil {
		return false
	}
	for _, s := range st.Services {
		if out.Service != "" && s.Name != out.Service {
			continue
		}
		switch s.State {
		case control.GaveUp:
			return true
		case control.Down, control.Starting, control.Stopped:
			if out.PID == 0 {
				return true
			}
		}
	}
	return false
}

// counted is "1 worker", "2 workers".
func counted(n int, what string) string { return phrase.Counted(n, what) }

func printIndented(w io.Writer, lines []string) {
	for _, l := range lines {
		fmt.Fprintf(w, "  %s\n", printable(l))
	}
}

func printable(s string) string { return phrase.Printable(s) }

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// shortDuration has two or three digits that matter.
func shortDuration(d time.Duration) string { return phrase.Duration(d) }
