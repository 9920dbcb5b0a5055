package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const broadcastLong = `Send a message to all workers of a kept service that have this library in them:
their programs get it from Upgrader.Broadcasts. What it means is up to them.

MESSAGE - is read from standard input, 32 KiB at most.

Exit status: 0 it was sent to somebody; 1 nobody can hear it; 2 usage; 3 not
running; 5 refused.`

func newBroadcastCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "broadcast [SERVICE] MESSAGE",
		Short: "Send a message to all workers of a service",
		Long:  broadcastLong,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var b control.Broadcast
			if len(args) == 2 {
				b.Service = args[0]
			}
			if b.Message = []byte(args[len(args)-1]); string(b.Message) == "-" {
				var err error
				if b.Message, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), control.MaxBroadcast+1)); err != nil {
					return err
				}
			}
			if len(b.Message) > control.MaxBroadcast {
				return fail(exitUsage, "send where it is to be found", "the message has more than %d bytes", control.MaxBroadcast)
			}
			client, err := connect(cmd)
			if err != nil {
				return err
			}
			answer, err := client.Broadcast(cmd.Context(), b)
			if err != nil {
				return refusedUnlessGone("broadcast", err)
			}
			return tellBroadcast(cmd, answer, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func tellBroadcast(cmd *cobra.Command, a control.BroadcastAnswer, asJSON bool) error {
	if asJSON {
		if err := printJSON(cmd.OutOrStdout(), a); err != nil {
			return err
		}
	}
	if a.Workers == 0 {
		return fail(exitFailed, "only programs with tablecloth's library hear broadcasts", "none of %s can hear it", counted(a.Deaf, "worker"))
	}
	if asJSON {
		return nil
	}
	text := "sent to " + counted(a.Workers, "worker")
	if a.Deaf > 0 {
		text += fmt.Sprintf("; %s can't hear it", counted(a.Deaf, "other"))
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}
