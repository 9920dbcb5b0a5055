package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Exit statuses of every command but run.
const (
	exitDone       = 0
	exitFailed     = 1 // failed or timed out; the old generation serves
	exitUsage      = 2
	exitNotRunning = 3
	exitGaveUp     = 4
	exitRefused    = 5
	exitUnknown    = 6 // nobody can tell the outcome
)

// exitError is how a command fails. Only its status counts where err is nil:
// everything has been said.
type exitError struct {
	status int
	err    error
	hint   string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// fail makes an exitError. hint may be "".
func fail(status int, hint, format string, args ...any) error {
	return &exitError{status: status, hint: hint, err: fmt.Errorf(format, args...)}
}

func usageError(cmd *cobra.Command, err error) error {
	return fail(exitUsage, fmt.Sprintf("see %s --help", cmd.CommandPath()), "%s", parsing.ReplaceAllString(err.Error(), ""))
}

// parsing is what strconv's errors say before they say why.
var parsing = regexp.MustCompile(`strconv\.\w+: parsing "(?:[^"\\]|\\.)*": `)

// noArgs refuses arguments. Cobra would call them unknown commands.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := fmt.Sprintf("see %s --help", cmd.CommandPath())
	if cmd.Flags().Lookup("file") != nil {
		hint = fmt.Sprintf("did you mean --file %s?", args[0])
	}
	return fail(exitUsage, hint, "%s takes no argument: %q", cmd.CommandPath(), args[0])
}

// execute runs the command that args name, says why it failed, and returns the
// exit status.
func execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	out := &output{file: os.Stdout}
	root.SetOut(out)
	cmd, err := root.ExecuteContextC(ctx)
	if e := out.failure(); err == nil && e != nil {
		err = fail(exitFailed, "", "the output can't be written: %w", e)
	}
	if err == nil {
		return exitDone
	}
	e := explain(cmd, err)
	if e.err != nil {
		complain(root.ErrOrStderr(), e.err.Error(), e.hint)
	}
	return e.status
}

// explain finds the exit status and the hint of an error.
func explain(cmd *cobra.Command, err error) *exitError {
	var exit *exitError
	if errors.As(err, &exit) {
		return exit
	}
	e := &exitError{status: exitFailed, err: err}
	var told *control.Error
	if errors.As(err, &told) {
		e.hint = told.Hint
	}
	switch {
	case errors.Is(err, control.ErrNotRunning):
		e.status = exitNotRunning
	case errors.Is(err, control.ErrDenied):
		e.status = exitRefused
	case errors.Is(err, control.ErrUnknown):
		e.status = exitUnknown
	case errors.Is(err, control.ErrAmbiguous):
		e.status = exitUsage
	case told == nil && isUsage(err):
		e.status, e.hint = exitUsage, fmt.Sprintf("see %s --help", cmd.CommandPath())
		if name := suggestion(err); name != "" {
			e.hint = fmt.Sprintf("did you mean %s %s?", cmd.CommandPath(), name)
		}
	}
	return e
}

// isUsage knows cobra's own errors, which have no type.
func isUsage(err error) bool {
	for _, s := range []string{"unknown command ", "accepts ", "requires at least ", "if any flags in the group ", "required flag"} {
		if strings.HasPrefix(err.Error(), s) {
			return true
		}
	}
	return false
}

// suggestion is the first one that cobra appends to "unknown command".
func suggestion(err error) string {
	_, list, _ := strings.Cut(err.Error(), "Did you mean this?\n\t")
	return firstLine(list)
}

func complain(w io.Writer, msg, hint string) {
	fmt.Fprintf(w, "tablecloth: error: %s\n", strings.TrimPrefix(strings.TrimPrefix(firstLine(msg), "control: "), "keeper: "))
	if hint != "" {
		fmt.Fprintf(w, "tablecloth: hint: %s\n", hint)
	}
}

// firstLine drops what cobra adds to its messages: suggestions, usage.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
