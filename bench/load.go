package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/bench/internal/measure"
	"github.com/tablecloth-go/tablecloth/bench/internal/system"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// loadCommand has strict clients talk to any service that serves the paths.
func loadCommand() *cobra.Command {
	l := strict.Load{Groups: measure.Mix()}
	var d time.Duration
	var kind string
	var n int
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Load a service with strict clients, and print what they saw as JSON",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if kind != "" {
				if !slices.Contains(strict.Kinds(), strict.Kind(kind)) {
					return fmt.Errorf("no kind %q, there are %v", kind, strict.Kinds())
				}
				l.Groups = []strict.Group{{Kind: strict.Kind(kind), N: n, Rate: float64(n)}}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), d)
			defer cancel()
			enc := json.NewEncoder(os.Stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(l.Run(ctx))
		},
	}
	f := cmd.Flags()
	f.StringVar(&l.Network, "network", "tcp", "tcp or unix")
	f.StringVar(&l.Addr, "addr", "127.0.0.1:8080", "`address` of the service")
	f.StringVar(&kind, "kind", "", fmt.Sprintf("only clients of this kind, of %v", strict.Kinds()))
	f.IntVarP(&n, "clients", "n", 10, "clients of that kind; for connect: requests per second")
	f.DurationVar(&d, "duration", 10*time.Second, "how long")
	f.DurationVar(&l.Blind, "blind", 0, "clients don't see the end of a connection that comes so shortly before they send")
	f.Uint64Var(&l.Seed, "seed", 1, "of what clients send")
	return cmd
}

func systemsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "systems",
		Short: "List the systems that can be measured",
		Run: func(*cobra.Command, []string) {
			for _, s := range system.Catalogue() {
				fmt.Printf("%-14s %s: %s\n", s.Name, s.Title, s.Setup)
			}
		},
	}
}
