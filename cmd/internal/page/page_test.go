package page

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func command() *cobra.Command {
	root := &cobra.Command{Use: "tool", Short: "Do things", Long: "All of it.\n\nExit status: 0 done; 1 not.\n\nEnvironment: TOOL_DIR is as --dir."}
	cmd := &cobra.Command{
		Use:   "run [flags] -- PROGRAM",
		Short: "Run a program",
		Long: `Run PROGRAM [twice]:

  1. bind the sockets of --listen,
     all of them
  2. say "tool run"

Words:
  one     the first
  two     the second

Signals: HUP upgrades; TERM stops.`,
		Example: "  tool run -- /bin/true",
		Run:     func(*cobra.Command, []string) {},
	}
	cmd.Flags().StringP("listen", "l", "80", "bind `ADDR`, see --help")
	cmd.Flags().Bool("secret", false, "")
	cmd.Flags().MarkHidden("secret")
	root.AddCommand(cmd, &cobra.Command{Use: "hidden", Hidden: true, Run: cmd.Run})
	return cmd
}

const want = `# tool run

Run a program.

## Synopsis

    tool run [flags] -- PROGRAM

## What it does

Run PROGRAM \[twice\]:

1. bind the sockets of ` + "`--listen`" + `,
   all of them
2. say ` + "`tool run`" + `

Words:

- ` + "`one`" + `: the first
- ` + "`two`" + `: the second

## Options

- ` + "`-l, --listen ADDR`: bind ADDR, see `--help`" + ` (default 80)

## Signals

- HUP upgrades
- TERM stops

## Environment

- ` + "`TOOL_DIR` is as `--dir`" + `

## Exit status

- 0 done
- 1 not

## Examples

    tool run -- /bin/true

`

func TestGenerate(t *testing.T) {
	cmd := command()
	const end = "## See also\n\n[tool](tool.md)\n"
	if got := Generate(cmd, ""); got != want+end {
		t.Errorf("got\n%s", got)
	}
	const notes = Marker + "\n## Notes\n\nMind the gap.\n"
	page := Generate(cmd, notes)
	if page != want+notes+"\n"+end {
		t.Errorf("with notes:\n%s", page)
	}
	if again := Generate(cmd, ByHand(page)); again != page {
		t.Errorf("made again:\n%s", again)
	}
	if ByHand(want+end) != "" {
		t.Error("there is nothing written by hand")
	}
}

func TestPages(t *testing.T) {
	var names []string
	for _, c := range Pages(command().Root()) {
		names = append(names, Name(c))
	}
	if got := strings.Join(names, " "); got != "tool tool-run" {
		t.Error(got)
	}
}
