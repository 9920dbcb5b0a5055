// Command bench measures what clients see when a service is upgraded or dies:
// tablecloth, and what people use instead.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/bench/internal/serve"
)

func main() {
	// The measured programs have signals of their own.
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		if err := program(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench: error:", err)
			os.Exit(1)
		}
		return
	}
	if signal.Ignored(syscall.SIGHUP) {
		// By nohup. What is measured would inherit that, and be deaf to its trigger.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:   "bench",
		Short: "Measure what clients lose when a service is upgraded or dies",
		Long: `Measure what clients lose when a service is upgraded or dies: with tablecloth,
and with what people use instead. Run it in bench/, on Linux:

  go run . all --quick -o results.json
  go run . report results.json

The second writes ../docs/bench.md and ../docs/bench/*.svg. What isn't installed
is left out, and the report says so.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(actionCommands()...)
	root.AddCommand(allCommand(), loadCommand(), reportCommand(), systemsCommand(), serveCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// program is one process of a measured program.
func program(args []string) error {
	var o serve.Options
	cmd := &cobra.Command{Args: cobra.ExactArgs(1), SilenceUsage: true, SilenceErrors: true,
		RunE: func(_ *cobra.Command, args []string) error { return serve.Run(args[0], o) }}
	cmd.SetArgs(args)
	cmd.Flags().StringVar(&o.Addr, "addr", "127.0.0.1:8080", "`address` to serve on")
	cmd.Flags().StringVar(&o.Counter, "counter", "generation", "`file` that numbers the processes")
	return cmd.Execute()
}

// serveCommand is for the help; see program.
func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve PROGRAM --addr ADDRESS --counter FILE",
		Short: fmt.Sprintf("Be one of the measured programs: %v", serve.Names()),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}
