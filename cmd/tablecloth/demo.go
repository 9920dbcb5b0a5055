package main

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/show"
)

func newDemoCommand() *cobra.Command {
	c := show.Config{Args: []string{demoService}}
	var alone bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Upgrade and crash a service under load, and keep the score",
		Long: `demo starts a small HTTP service and strict clients: each has one connection,
sends requests that must not be repeated, checks every answer, and neither
retries nor reconnects. Then it upgrades the service several times, offers it a
broken binary, lets a goroutine of it panic, and kills it: with SIGKILL, and by
a fatal error of the runtime. At the end it shows what the clients saw.

The service runs under a keeper; with --alone it doesn't, and is not killed.

Everything happens on 127.0.0.1 and in a temporary directory; Ctrl-C ends it at
once and leaves nothing.

Exit status: 0 if no request failed and no connection was lost, else 1. (A
request that is killed with its process, and is told so by a 500 or 503, or by
the visible end of an answer that was half sent, has not failed.)`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Duration <= 0 || c.Upgrades < 0 {
				return fail(exitUsage, "see tablecloth demo --help", "a duration above 0 and a number of upgrades that is not negative are needed")
			}
			c.Command, c.Kept = ownName(), !alone
			c.Out = cmd.OutOrStdout()
			c.Live = isTerminal(c.Out) && os.Getenv("TERM") != "dumb"
			c.Colour = c.Live && os.Getenv("NO_COLOR") == ""
			score, err := show.Run(cmd.Context(), c)
			if err != nil {
				return fail(exitFailed, demoHint(err), "%w", err)
			}
			if !score.OK {
				return &exitError{status: exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&c.Duration, "duration", 12*time.Second, "how long the clients are at it")
	cmd.Flags().IntVar(&c.Upgrades, "upgrades", 5, "number of upgrades")
	cmd.Flags().BoolVar(&alone, "alone", runtime.GOOS != "linux", "run the service without a keeper, and don't kill it")
	cmd.Flags().BoolVar(&c.Stay, "stay", false, "go on after the last act until Ctrl-C, and say what to try")
	cmd.Flags().BoolVar(&c.JSON, "json", false, "print the score as JSON, and nothing else")
	cmd.Flags().Uint64Var(&c.Seed, "seed", 1, "of what the clients send")
	return cmd
}

// ownName is what the user types to start this program.
func ownName() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/tablecloth"
	}
	return os.Args[0]
}

func demoHint(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "set TMPDIR to a directory in which programs may be started"
	}
	return ""
}

// demoService is the hidden command that is the service.
const demoService = "demo-service"

func newDemoServiceCommand() *cobra.Command {
	return &cobra.Command{
		Use:                demoService,
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return show.Serve(args, buildVersion().Version)
		},
	}
}
