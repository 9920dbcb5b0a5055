package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/cmd/internal/top"
)

const topLong = `Show live in the terminal what services do: generations as bars over time,
processes with their connections, requests in flight, connections that move,
events as they come. It goes on over upgrades, and when the service is gone it
waits for the next one.

Keys upgrade, restart and stop a service, after a question. An upgrade that was
asked for here and isn't done ends with top. ? shows all keys; q quits.

Environment: NO_COLOR for no colours; LC_ALL, LC_CTYPE, LANG, unless they say
UTF-8, for nothing but ASCII.

Exit status: 0 done; 1 the terminal is gone; 2 usage, or no terminal; 3 not
running at the beginning; 5 not allowed.`

func newTopCommand() *cobra.Command {
	interval := top.DefaultInterval
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show services live, and act on them",
		Long:  topLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return usageError(cmd, errors.New("--interval: 100ms or more"))
			}
			if !isTerminal(os.Stdout) || !isTerminal(os.Stdin) || os.Getenv("TERM") == "dumb" {
				return fail(exitUsage, "where there is none: tablecloth status --watch", "top needs a terminal")
			}
			client, err := connect(cmd)
			if err != nil {
				return err
			}
			screen, err := top.NewScreen()
			if err != nil {
				return fail(exitUsage, "set TERM to what this terminal is; or use tablecloth status --watch", "can't draw on this terminal: %w", err)
			}
			defer screen.Fini()
			return top.Run(cmd.Context(), top.Options{Client: client, Interval: interval, Screen: screen, ASCII: top.WantsASCII()})
		},
	}
	config.AddSpan(cmd.Flags(), &interval, true, "interval", "how often to ask for the status")
	return cmd
}
