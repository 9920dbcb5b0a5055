// Package page makes the manual page of a command from the command itself: in
// Markdown, in one shape for all of them, so that what it says is what the
// command's own help says.
package page

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Marker stands between what is generated and what was written by hand.
const Marker = "<!-- What follows is written by hand. -->\n"

// Name of the page of a command, without an extension: "tablecloth-run".
func Name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// Generate returns the page of cmd. byHand is what was written by hand of the
// page, from Marker on; it may be "".
func Generate(cmd *cobra.Command, byHand string) string {
	t := parse(cmd.Long)
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s.\n\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
	section(&b, "Synopsis", code(synopsis(cmd)))
	section(&b, "What it does", t.body)
	section(&b, "Options", options(cmd))
	section(&b, "Signals", items(t.sections["Signals"]))
	section(&b, "Environment", items(orInherited(cmd, t, "Environment")))
	section(&b, "Exit status", items(orInherited(cmd, t, "Exit status")))
	section(&b, "Examples", code(cmd.Example))
	if byHand != "" {
		fmt.Fprintf(&b, "%s\n", byHand)
	}
	section(&b, "See also", others(cmd))
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// ByHand is the part of a page that was written by hand, and is to be kept.
func ByHand(page string) string {
	_, after, found := strings.Cut(page, Marker)
	if !found {
		return ""
	}
	after, _, _ = strings.Cut(after, "\n## See also\n")
	return Marker + strings.TrimRight(after, "\n") + "\n"
}

// Pages are the commands that have a page: root, and all that is not hidden.
func Pages(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" {
			all = append(all, Pages(c)...)
		}
	}
	return all
}

func synopsis(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() && !cmd.Runnable() {
		return cmd.CommandPath() + " COMMAND [flags]"
	}
	return cmd.UseLine()
}

func section(b *strings.Builder, title, text string) {
	if text = strings.Trim(text, "\n"); text != "" {
		fmt.Fprintf(b, "## %s\n\n%s\n\n", title, text)
	}
}

func code(text string) string {
	if text == "" {
		return ""
	}
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, l := range lines {
		lines[i] = "    " + strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}

// orInherited is a section of cmd's own, or the one of the command above it.
func orInherited(cmd *cobra.Command, t text, title string) string {
	if s := t.sections[title]; s != "" || !cmd.HasParent() {
		return s
	}
	return orInherited(cmd.Parent(), parse(cmd.Parent().Long), title)
}

func options(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag()
	var b strings.Builder
	list := func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			b.WriteString(option(f))
		}
	}
	cmd.LocalFlags().VisitAll(list)
	cmd.InheritedFlags().VisitAll(list)
	return b.String()
}

func option(f *pflag.Flag) string {
	name, usage := pflag.UnquoteUsage(f)
	word := "--" + f.Name
	if f.Shorthand != "" {
		word = "-" + f.Shorthand + ", " + word
	}
	if name != "" {
		word += " " + name
	}
	if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "0s" && !strings.Contains(usage, "(default") {
		usage += fmt.Sprintf(" (default %s)", strings.Trim(d, "[]"))
	}
	return fmt.Sprintf("- `%s`: %s\n", word, dress(usage))
}

func others(cmd *cobra.Command) string {
	var links []string
	for _, c := range Pages(cmd.Root()) {
		if c != cmd {
			links = append(links, fmt.Sprintf("[%s](%s.md)", c.CommandPath(), Name(c)))
		}
	}
	return strings.Join(links, " ·\n")
}

// text is the help of a command, taken apart.
type text struct {
	body     string
	sections map[string]string // "Exit status": what follows the colon
}

var heading = regexp.MustCompile(`^(Signals|Environment|Exit status)(?: of the commands)?: `)

func parse(long string) text {
	t := text{sections: map[string]string{}}
	var body []string
	for p := range strings.SplitSeq(strings.Trim(long, "\n"), "\n\n") {
		if m := heading.FindStringSubmatch(p); m != nil {
			t.sections[m[1]] = strings.Join(strings.Fields(p[len(m[0]):]), " ")
			continue
		}
		body = append(body, paragraph(p))
	}
	t.body = strings.Join(body, "\n\n")
	return t
}

var (
	number = regexp.MustCompile(`^  \d+\. `)
	list   = regexp.MustCompile(`^  ([^ ].*?) {2,}(.*)$`)
)

// paragraph of a help as Markdown: numbered lists become lists, words and their
// meaning in two columns too, what else is indented is shown as it is.
func paragraph(p string) string {
	lines := strings.Split(p, "\n")
	indented := func(from int) bool {
		for _, l := range lines[from:] {
			if !strings.HasPrefix(l, "  ") {
				return false
			}
		}
		return len(lines) > from
	}
	switch {
	case number.MatchString(lines[0]) && indented(0):
		return numbered(lines)
	case len(lines) > 1 && number.MatchString(lines[1]) && indented(1):
		return dress(lines[0]) + "\n\n" + numbered(lines[1:])
	case indented(0):
		return table(lines)
	case indented(1) && !strings.HasPrefix(lines[0], " "):
		return dress(lines[0]) + "\n\n" + table(lines[1:])
	}
	return dress(p)
}

func numbered(lines []string) string {
	for i, l := range lines {
		lines[i] = dress(strings.TrimPrefix(l, "  "))
	}
	return strings.Join(lines, "\n")
}

// table shows "  word   meaning" as a list if all lines are such.
func table(lines []string) string {
	var out []string
	for _, l := range lines {
		m := list.FindStringSubmatch(l)
		switch {
		case m != nil:
			out = append(out, fmt.Sprintf("- `%s`: %s", m[1], dress(m[2])))
		case len(out) > 0 && strings.HasPrefix(l, "      "):
			out = append(out, "  "+dress(strings.TrimSpace(l)))
		default:
			return code(strings.Join(lines, "\n"))
		}
	}
	return strings.Join(out, "\n")
}

func items(s string) string {
	if s == "" {
		return ""
	}
	s = strings.TrimSuffix(s, ".")
	var out []string
	for item := range strings.SplitSeq(s, "; ") {
		out = append(out, "- "+dress(item))
	}
	return strings.Join(out, "\n")
}

// What is literal in a help: commands in quotes, flags, variables, signals' masks.
var literal = regexp.MustCompile(`"[^"\n]+"|(?:^|\B)--[a-z][a-z-]*(?:=[^\s,;)]*[^\s,;.:)])?|\$[A-Z_]+(?:/[a-z]+)?|\b[A-Z]+_[A-Z_]+(?:=[^\s,;.:)]+)?|\B/[a-z]+(?:/[a-zA-Z]+)+`)

// dress marks what is literal, and keeps Markdown from seeing marks of its own.
func dress(s string) string {
	var b strings.Builder
	for {
		at := literal.FindStringIndex(s)
		if at == nil {
			b.WriteString(escape(s))
			return b.String()
		}
		b.WriteString(escape(s[:at[0]]))
		fmt.Fprintf(&b, "`%s`", strings.Trim(s[at[0]:at[1]], `"`))
		s = s[at[1]:]
	}
}

var escaper = strings.NewReplacer("*", `\*`, "<", `\<`, "[", `\[`, "]", `\]`, "|", `\|`, "`", "\\`")

func escape(s string) string { return escaper.Replace(s) }
