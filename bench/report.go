package main

import (
	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/bench/internal/report"
)

func reportCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "report RESULTS...",
		Short: "Write tables and plots of results",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, paths []string) error {
			a, err := report.Read(paths...)
			if err != nil {
				return err
			}
			return a.Write(dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "../docs", "`directory` for bench.md and bench/*.svg")
	return cmd
}
