package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const statusLong = `Show services: their processes with what each does and since when, what drains
still wait for, the last upgrade, the last crash.

BUSY is requests in flight, MOVED connections that went to the next process,
RESCUED those that came from a dead one. CPU is used up since the start; with
--watch, a share of one CPU.

Exit status: 0 done; 2 usage; 3 not running; 4 a service has given up; 5 not
allowed.`

type statusOptions struct {
	names    []string
	asJSON   bool
	watch    bool
	interval time.Duration
}

func newStatusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [SERVICE...]",
		Short: "Show services, processes and connections",
		Long:  statusLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.names = args; o.interval < 100*time.Millisecond {
				return usageError(cmd, errors.New("--interval: 100ms or more"))
			}
			client, err := connect(cmd)
			if err != nil {
				return err
			}
			if o.watch {
				return o.follow(cmd.Context(), client, cmd.OutOrStdout())
			}
			st, err := o.ask(cmd.Context(), client)
			if err != nil {
				return err
			}
			if o.asJSON {
				err = printJSON(cmd.OutOrStdout(), st)
			} else {
				err = printStatus(cmd.OutOrStdout(), st, time.Now())
			}
			return errors.Join(err, givenUp(st))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.asJSON, "json", false, "print JSON; with --watch a line each time")
	f.BoolVarP(&o.watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	o.interval = time.Second
	config.AddSpan(f, &o.interval, true, "interval", "how often, with --watch")
	return cmd
}

// ask asks for the status of the services that are named, or of all.
func (o *statusOptions) ask(ctx context.Context, client *control.Client) (control.Status, error) {
	st, err := client.Status(ctx)
	if err != nil || len(o.names) == 0 {
		return st, err
	}
	var all []string
	for _, s := range st.Services {
		all = append(all, s.Name)
	}
	for _, name := range o.names {
		if !slices.Contains(all, name) {
			return st, fail(exitUsage, "there is "+strings.Join(all, ", "), "no service is called %s", name)
		}
	}
	st.Services = slices.DeleteFunc(st.Services, func(s control.Service) bool { return !slices.Contains(o.names, s.Name) })
	return st, nil
}

// givenUp is an error without words: the status has said it.
func givenUp(st control.Status) error {
	for _, s := range st.Services {
		if s.State == control.GaveUp {
			return &exitError{status: exitGaveUp}
		}
	}
	return nil
}

// follow shows the status until ctx is done, or nobody is left to ask.
func (o *statusOptions) follow(ctx context.Context, client *control.Client, w io.Writer) error {
	onTerminal := isTerminal(w) && !o.asJSON
	before := cpuTimes{}
	for {
		st, err := o.ask(ctx, client)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case o.asJSON:
			err = json.NewEncoder(w).Encode(st)
		case onTerminal:
			columns, lines := terminalSize(w)
			_, err = io.WriteString(w, screen(reportOf(w, st, time.Now(), columns, &before), lines))
		default:
			_, err = io.WriteString(w, reportOf(w, st, time.Now(), 80, &before)+"\n")
		}
		if err != nil {
			return err
		}
		if pause(ctx, o.interval) != nil {
			return nil
		}
	}
}

// screen paints text over what is there: without a moment in which nothing is.
func screen(text string, lines int) string {
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(all) >= lines {
		more := len(all) - lines + 2
		all = append(all[:max(lines-2, 0)], fmt.Sprintf("… %d more lines", more))
	}
	return "\x1b[H" + strings.Join(all, "\x1b[K\n") + "\x1b[K\n\x1b[J"
}

func printStatus(w io.Writer, st control.Status, now time.Time) error {
	columns, _ := terminalSize(w)
	_, err := io.WriteString(w, reportOf(w, st, now, columns, nil))
	return err
}
