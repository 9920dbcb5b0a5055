package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// others are programs as pages name them, without this library.
var others = map[string]string{"app.py": strings.ReplaceAll(gunicornApp, "def app(", "def wsgi("), "app.js": `
const http = require('http')
const server = http.createServer((q, r) => { r.setHeader('Connection', 'close'); r.end(String(process.pid)) })
server.listen(process.env.LISTEN_FDS ? {fd: 3} : 3000) // as docs/migration.md has it
process.on('SIGTERM', () => server.close())
`}

// TestProgramsOfOthersInDocumentation: the lines of pages that run programs which
// know nothing of this library do what the pages say.
func TestProgramsOfOthersInDocumentation(t *testing.T) {
	n := 0
	for page, text := range documentation(t) {
		for _, line := range commandLines(text) {
			end := slices.Index(line, "--")
			if line[0] != "run" || slices.Contains(line, "…") || end < 0 || end+1 == len(line) || !slices.Contains([]string{"gunicorn", "node"}, line[end+1]) {
				continue
			}
			n++
			t.Run(fmt.Sprintf("%s/%s", filepath.Base(page), line[end+1]), func(t *testing.T) { runsAsShown(t, line) })
		}
	}
	if n < 2 {
		t.Errorf("only %d are found", n)
	}
}

func runsAsShown(t *testing.T, line []string) {
	t.Parallel()
	program := line[slices.Index(line, "--")+1]
	_, err := exec.LookPath(program)
	testenv.Need(t, program, err == nil)
	dir := t.TempDir()
	for name, text := range others {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	addr := proctest.FreeAddr(t)
	for i := range line {
		if line[i] == "--listen" {
			line[i+1] = addr
		}
	}
	path := filepath.Join(dir, "control")
	cmd := as(t, "tablecloth", append([]string{"--control", path}, line...)...)
	cmd.Dir = dir
	logged(t, cmd).Next(t, "ready: ready by")
	client := proctest.Dial(t, path)
	proctest.Poll(t, "all workers", func() bool { return proctest.Status(t, client).Generation == 1 })
	first, err := fetch(t, addr)
	if err != nil {
		t.Fatal(err)
	}
	name := proctest.Status(t, client).Name
	tablecloth(t, "--control", path, "upgrade", name).expect(t, exitDone, name+": generation 2 is ready", "")
	proctest.Check(t, func() error {
		again, err := fetch(t, addr)
		if err == nil && again == first {
			err = fmt.Errorf("process %s still answers", again)
		}
		return err
	})
	workers := proctest.Status(t, client).Workers
	tablecloth(t, "--control", path, "scale", fmt.Sprintf("%s=%d", name, workers+1)).expect(t, exitDone, fmt.Sprintf("%d workers", workers+1), "")
	tablecloth(t, "--control", path, "stop").expect(t, exitDone, "", "")
}
