// Command tablecloth replaces running programs without their clients noticing.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	// The first Ctrl-C cancels what a command waits for; the second one ends the
	// command whatever it does.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, newRootCommand(), os.Args[1:]))
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tablecloth",
		Short: "Replace running programs without their clients noticing",
		Long: `tablecloth replaces running programs without their clients noticing: the next
generation inherits the listening sockets and live connections, and takes over
only when it is ready.

Commands find a running service by its control socket: --control,
$TABLECLOTH_CONTROL, $RUNTIME_DIRECTORY/control, or the only one on which a
service listens in /run/tablecloth and $XDG_RUNTIME_DIR/tablecloth.

Exit status of the commands: 0 done; 1 failed; 2 usage; 3 the service is not
running; 4 it has given up; 5 refused; 6 outcome unknown. That of "tablecloth
run" is the program's, so its own mistakes have others: see its page.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, err) })
	addControlFlag(root)
	root.AddCommand(
		newRunCommand(),
		withoutControl(newCheckCommand()),
		withoutControl(newInitCommand()),
		newUpgradeCommand(),
		newRestartCommand(),
		newScaleCommand(),
		newBroadcastCommand(),
		newStatusCommand(),
		newTopCommand(),
		newStopCommand(),
		newEventsCommand(),
		withoutControl(newUnitCommand()),
		newDoctorCommand(),
		withoutControl(newDemoCommand()),
		newDemoServiceCommand(),
		withoutControl(newVersionCommand()),
	)
	return root
}

// usageTemplate is short and narrow enough for a small terminal.
const usageTemplate = `Usage: {{if .Runnable}}{{.UseLine}}{{else}}{{.CommandPath}} COMMAND [flags]{{end}}
{{- if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableFlags}}

Flags:
{{.Flags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{end}}
`
