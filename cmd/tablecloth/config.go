package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

const defaultFile = "tablecloth.yaml"

const checkLong = `Read a configuration file as "tablecloth run --file" does, and say what is
wrong with it: file, line, column, and what was meant. Nothing is started.

Users, groups and crash pages must be there; programs and environment files may
be missing yet, or a line of the latter be wrong, which is said.

Exit status: 0 the file is right; 1 it isn't; 2 usage, or it can't be read.`

func newCheckCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [--file FILE]",
		Short: "Check a configuration file",
		Long:  checkLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := config.Load(file)
			if asJSON {
				return printCheck(cmd.OutOrStdout(), file, s, err)
			}
			if err != nil {
				return refuseFile(cmd.ErrOrStderr(), file, err, exitFailed)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is right: %s\n", file, counted(len(s.Services), "service"))
			for _, w := range config.Missing(s) {
				fmt.Fprintf(cmd.OutOrStdout(), "  but %s\n", w)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", defaultFile, "the `file` to check")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// checked is what check --json prints.
type checked struct {
	File     string        `json:"file"`
	Services []string      `json:"services"`
	Errors   config.Errors `json:"errors"`
	Missing  []string      `json:"missing"` // what needn't be there yet
}

func printCheck(w io.Writer, file string, s *keeper.Config, err error) error {
	out := checked{File: file, Services: []string{}, Errors: config.Errors{}, Missing: []string{}}
	if err != nil && !errors.As(err, &out.Errors) {
		return refuseFile(io.Discard, file, err, exitFailed)
	}
	if s != nil {
		for _, service := range s.Services {
			out.Services = append(out.Services, service.Name)
		}
		out.Missing = append(out.Missing, config.Missing(s)...)
	}
	if e := printJSON(w, out); e != nil || err == nil {
		return e
	}
	return &exitError{status: exitFailed}
}

// refuseFile says all that is wrong with a file. What it returns has the exit
// status: status, or that for a file which can't be read.
func refuseFile(w io.Writer, file string, err error, status int) error {
	var all config.Errors
	if !errors.As(err, &all) {
		if status == exitFailed {
			status = exitUsage
		}
		hint := ""
		if errors.Is(err, os.ErrNotExist) {
			hint = "name the file with --file; tablecloth init writes an example"
		}
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return fail(status, hint, "%s: %w", file, err)
	}
	for _, e := range all {
		complain(w, printable(e.Error()), "")
		if excerpt := e.Excerpt(); excerpt != "" {
			fmt.Fprintln(w, excerpt)
		}
		if e.Hint != "" {
			fmt.Fprintf(w, "tablecloth: hint: %s\n", printable(e.Hint))
		}
	}
	return &exitError{status: status}
}

const initLong = `Write an example of a configuration file, with comments, to begin with. FILE
must not be there yet.

Exit status: 0 it is written; 1 it can't be; 2 usage.`

func newInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write an example of a configuration file",
		Long:  initLong,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := orElse(serviceArg(args), defaultFile)
			if path == "-" {
				_, err := io.WriteString(cmd.OutOrStdout(), config.Example)
				return err
			}
			err := writeNew(path, config.Example)
			if errors.Is(err, os.ErrExist) {
				return fail(exitFailed, "name another file, or remove it", "%s is there already", path)
			}
			if err != nil {
				return err
			}
			of := ""
			if path != defaultFile {
				of = " --file " + filepath.Clean(path)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is written: change it, then tablecloth check%s, and tablecloth run --file %s\n", path, of, path)
			return nil
		},
	}
}

// writeNew makes a file that isn't there yet. What it can't write whole it takes
// away again: the next attempt would find it, or systemd half a unit.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}
