package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Set by the linker in packages, which are built without a repository's help.
var release, commit string

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this command",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(cmd.OutOrStdout(), buildVersion())
			}
			v := buildVersion()
			fmt.Fprintf(cmd.OutOrStdout(), "tablecloth %s (%s%s, %s, control protocol %d)\n", v.Version, v.commit(), v.Go, v.Platform, v.Control)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

type version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Control  int    `json:"control"` // version of the control protocol
}

func buildVersion() version {
	v := version{
		Version:  "unknown",
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Control:  control.Version,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	if release != "" {
		v.Version, v.Revision = release, commit
	}
	return v
}

// commit is the beginning of the revision, where it is known.
func (v version) commit() string {
	if v.Revision == "" {
		return ""
	}
	return fmt.Sprintf("commit %.12s, ", v.Revision)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
