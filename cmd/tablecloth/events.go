package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const eventsLong = `Print what has happened to a service, oldest first: starts, upgrades, drains,
crashes. A service remembers about a thousand events, over all its generations.

With --json each line is one event; its "seq" is what --since takes to go on
after it. An event of kind "gap" stands for those that are not remembered.

Exit status: 0 done, or Ctrl-C; 2 usage; 3 the service is not running, or is
gone; 5 not allowed.`

func newEventsCommand() *cobra.Command {
	var since uint64
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what has happened to a service",
		Long:  eventsLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := connect(cmd)
			if err != nil {
				return err
			}
			events := client.Events
			if follow {
				events = client.Follow
			}
			for ev, err := range events(cmd.Context(), since) {
				if errors.Is(err, context.Canceled) {
					return nil
				}
				if err != nil {
					return err
				}
				if err := printEvent(cmd.OutOrStdout(), ev, asJSON); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&since, "since", 0, "only events after this `number`")
	f.BoolVarP(&follow, "follow", "f", false, "go on with events to come, also over upgrades")
	f.BoolVar(&asJSON, "json", false, "print JSON, one event a line")
	return cmd
}

func printEvent(w io.Writer, ev control.Event, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(ev)
	}
	var who []string
	if ev.Service != "" {
		who = append(who, ev.Service)
	}
	if ev.Generation != 0 {
		who = append(who, fmt.Sprintf("gen %d", ev.Generation))
	}
	if ev.PID != 0 {
		who = append(who, fmt.Sprintf("pid %d", ev.PID))
	}
	line := fmt.Sprintf("%s %5d  %-9s %s", ev.At.Local().Format("15:04:05.000"), ev.Seq, printable(ev.Kind), strings.Join(who, " "))
	if text := eventText(ev); text != "" {
		line += ": " + printable(text)
	}
	_, err := fmt.Fprintln(w, strings.TrimRight(line, " "))
	return err
}

// eventText is what an event says, or else what can be said of its particulars.
func eventText(ev control.Event) string { return phrase.Event(ev) }
