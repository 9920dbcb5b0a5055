package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const scaleLong = `Change the number of workers of a kept service, and wait for the outcome. More:
the new ones run the last good program. Fewer: the last ones drain, and their
idle connections move. It holds until the service is defined anew.

Several NAME=N follow each other, up to the first failure.

Exit status: 0 so many serve; 1 failed or timed out; 2 usage; 3 not running; 4
nothing serves; 5 refused; 6 outcome unknown.`

func newScaleCommand() *cobra.Command {
	var o upgradeOptions
	cmd := &cobra.Command{
		Use:   "scale NAME=N... | N",
		Short: "Change the number of workers",
		Long:  scaleLong,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			requests, err := scaleRequests(args)
			if err != nil {
				return usageError(cmd, err)
			}
			client, err := connect(cmd)
			if err != nil {
				return err
			}
			for _, r := range requests {
				out, err := o.waitFor(cmd, client, r.ID, "scaling", func(ctx context.Context) (control.Outcome, error) {
					return client.Scale(ctx, r)
				})
				if err != nil {
					return refusedUnlessGone("scaling", err)
				}
				if err := tellScaled(cmd, client, out, o.asJSON); err != nil {
					return err
				}
			}
			return nil
		},
	}
	addWaitFlags(cmd, &o)
	return cmd
}

func tellScaled(cmd *cobra.Command, client *control.Client, out control.Outcome, asJSON bool) error {
	if asJSON {
		if err := printOutcome(cmd, out); err != nil {
			return err
		}
	}
	if out.Result != control.Ready {
		return tellFailure(cmd, client, "scaling", out)
	}
	if !asJSON {
		out.PID = 0 // of the last one, if there was one to be started
		fmt.Fprintln(cmd.OutOrStdout(), named(out, successLine(out)))
	}
	return nil
}

// scaleRequests reads NAME=N, or N for the only service.
func scaleRequests(args []string) ([]control.ScaleRequest, error) {
	var all []control.ScaleRequest
	for _, arg := range args {
		name, count, ok := strings.Cut(arg, "=")
		if !ok {
			name, count = "", arg
		}
		n, err := strconv.Atoi(count)
		switch {
		case err != nil || ok && name == "":
			return nil, fmt.Errorf("%q: NAME=N, N being a number", arg)
		case n < 1:
			return nil, fmt.Errorf("%q: at least 1; tablecloth stop ends a service", arg)
		case !ok && len(args) > 1:
			return nil, errors.New("of several services each needs its name: NAME=N")
		}
		all = append(all, control.ScaleRequest{ID: control.NewID(), Service: name, Workers: n})
	}
	return all, nil
}
