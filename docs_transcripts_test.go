package tablecloth

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// What pages show in blocks after <!-- run --> is what is seen: the commands of a
// page are run by one shell, in their order.
func TestTranscripts(t *testing.T) {
	testenv.Need(t, "Linux", runtime.GOOS == "linux")
	for _, program := range []string{"go", "bash", "curl"} {
		_, err := exec.LookPath(program)
		testenv.Need(t, program, err == nil)
	}
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/commands/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	bin, n := t.TempDir(), 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		steps := transcript(string(text))
		if len(steps) == 0 {
			continue
		}
		if n++; n == 1 {
			buildInto(t, bin)
		}
		t.Run(page, func(t *testing.T) { replay(t, bin, steps) })
	}
	if n == 0 {
		t.Error("no transcripts were found")
	}
}

func buildInto(t *testing.T, bin string) {
	t.Helper()
	for name, pkg := range map[string]string{"tablecloth": "./cmd/tablecloth", "app": "./cmd/demo"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// step is a command and what it prints: … stands for anything in a line, on a line
// of its own for any lines.
type step struct{ command, want string }

var block = regexp.MustCompile("(?s)<!-- run -->\n```console\n(.*?)```\n")

func transcript(page string) (steps []step) {
	for _, m := range block.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(m[1]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				steps = append(steps, step{command: command})
			} else {
				steps[len(steps)-1].want += line
			}
		}
	}
	return steps
}

// replay runs steps in a directory of their own, with app in it, and on a port of
// their own instead of 8080.
func replay(t *testing.T, bin string, steps []step) {
	dir := t.TempDir()
	if err := os.Link(filepath.Join(bin, "app"), filepath.Join(dir, "app")); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(proctest.FreeAddr(t))
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TABLECLOTH_CONTROL="+filepath.Join(dir, "control"), "NO_COLOR=1")
	t.Cleanup(func() {
		stop := exec.Command(filepath.Join(bin, "tablecloth"), "stop", "--now")
		stop.Env = env
		stop.Run()
	})
	commands, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	const mark = "\x01" // behind the output of each command
	shell := exec.Command("bash", "-c", `exec 9<&3 3<&-; while IFS= read -r line <&9; do (exit $was); eval "$line" 9<&-; was=$?; printf '`+mark+`\n'; done`)
	shell.Dir, shell.Env, shell.ExtraFiles = dir, env, []*os.File{commands}
	var log proctest.Log
	log.Start(t, shell)
	commands.Close()
	ended := proctest.Waited(shell)
	defer func() {
		w.Close()
		proctest.Await(t, "the end of the shell", ended)
	}()
	n := 0
	run := func(command string) string {
		t.Helper()
		fmt.Fprint(w, strings.ReplaceAll(command, "8080", port))
		n++
		log.Has(t, mark, n)
		return strings.TrimPrefix(strings.Split(strings.ReplaceAll(log.Text(), port, "8080"), mark)[n-1], "\n")
	}
	for _, s := range steps {
		proctest.Check(t, func() error {
			seen := run(s.command)
			if shown(s.want).MatchString(whole(seen)) {
				return nil
			}
			err := fmt.Errorf("$ %sprints\n%s\nand is shown with\n%s", s.command, seen, s.want)
			// Right after an upgrade the old process may accept once more.
			if !strings.HasPrefix(s.command, "curl ") {
				text, _ := os.ReadFile(filepath.Join(dir, "log"))
				t.Fatalf("%v\nlog:\n%s", err, text)
			}
			return err
		})
	}
}

// whole has a newline at its end: on a page there always is one.
func whole(s string) string {
	if s == "" || strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}

func shown(want string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for line := range strings.Lines(want) {
		if line == "…\n" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}

func TestShown(t *testing.T) {
	const want = "a … c\n…\nend (x)\n"
	for text, fits := range map[string]bool{
		"a b c\nend (x)\n":       true,
		"a b c\n1\n2\nend (x)\n": true,
		"a b d\nend (x)\n":       false,
		"a b c\nend (x)\nmore\n": false,
		"a b c\nend x\n":         false,
	} {
		if shown(want).MatchString(text) != fits {
			t.Errorf("%q: fits is %v", text, !fits)
		}
	}
	steps := transcript("<!-- run -->\n```console\n$ one\n1\n$ two\n```\n```console\n$ three\n```\n")
	if fmt.Sprint(steps) != "[{one\n 1\n} {two\n }]" {
		t.Errorf("%q", steps)
	}
}
