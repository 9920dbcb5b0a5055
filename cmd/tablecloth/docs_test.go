package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documentation are all pages, with their texts.
func documentation(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/commands/*.md", "examples/*.md", "deploy/*.md"} {
		pages, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(pages) == 0 {
			t.Fatalf("%s: %v, %v", pattern, pages, err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			texts[page] = string(text)
		}
	}
	return texts
}

var (
	shownInText = regexp.MustCompile("`(tablecloth [a-z-][^`]*)`")
	shownAlone  = regexp.MustCompile(`(?m)^(?:    |\$ )(tablecloth [a-z-].*)$`)
	words       = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
	ofTheShell  = regexp.MustCompile(`^([0-9]?>|[|;&#])`)
)

// commandLines are those of this command that a page shows, without what a shell
// does with them.
func commandLines(text string) (lines [][]string) {
	for _, m := range append(shownInText.FindAllStringSubmatch(text, -1), shownAlone.FindAllStringSubmatch(text, -1)...) {
		line := words.FindAllString(strings.ReplaceAll(m[1], "; ", " ; "), -1)
		if end := slices.IndexFunc(line, ofTheShell.MatchString); end >= 0 {
			line = line[:end]
		}
		lines = append(lines, line[1:])
	}
	return lines
}

// unknown are the command lines of a text that this command would not understand,
// and how many there are in all.
func unknown(text string) (wrong []string, n int) {
	for _, line := range commandLines(text) {
		n++
		if slices.Contains(line, "…") || slices.Contains(line, "[flags]") { // a part, or a synopsis
			continue
		}
		root := newRootCommand()
		root.InitDefaultCompletionCmd()
		cmd, args, err := root.Find(line)
		if err == nil {
			cmd.InitDefaultHelpFlag()
			err = cmd.ParseFlags(args)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "flag needs an argument") { // one is only named
			wrong = append(wrong, strings.Join(line, " ")+": "+err.Error())
		}
	}
	return wrong, n
}

// TestCommandsInDocumentation: there are all commands and flags that pages show.
func TestCommandsInDocumentation(t *testing.T) {
	all := 0
	for page, text := range documentation(t) {
		wrong, n := unknown(text)
		for _, w := range wrong {
			t.Errorf("%s: tablecloth %s", page, w)
		}
		all += n
	}
	if all < 100 {
		t.Errorf("only %d are found", all)
	}
	for text, want := range map[string]int{
		"`tablecloth levitate`": 1, "`tablecloth upgrade --levitate`": 1, "    tablecloth run --workers two -- x\n": 1, "$ tablecloth stop --nwo; echo\n": 1,
		"`tablecloth stop --now`": 0, "    tablecloth run -- x --levitate   # now\n": 0, "`tablecloth run --file`": 0, "a tablecloth levitates": 0,
	} {
		if wrong, _ := unknown(text); len(wrong) != want {
			t.Errorf("%s: %v", text, wrong)
		}
	}
}
