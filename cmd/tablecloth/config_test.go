package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestControlIsForThoseWhoAsk: the others neither offer nor take it.
func TestControlIsForThoseWhoAsk(t *testing.T) {
	for _, name := range []string{"check", "init", "unit", "demo", "version"} {
		if r := tablecloth(t, name, "--help"); strings.Contains(r.stdout, "--control ") || r.status != exitDone {
			t.Errorf("%s --help: %+v", name, r)
		}
		tablecloth(t, "--control", "/x", name).expect(t, exitUsage, "", "--control: "+name+" asks no running service\n")
	}
}

func TestInitAndCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	tablecloth(t, "check").expect(t, exitUsage, "", "tablecloth: hint: name the file with --file; tablecloth init writes an example\n")
	tablecloth(t, "init").expect(t, exitDone, "tablecloth.yaml is written", "")
	tablecloth(t, "init").expect(t, exitFailed, "", "tablecloth: error: tablecloth.yaml is there already\n")
	tablecloth(t, "check").expect(t, exitDone, "tablecloth.yaml is right: 1 service\n  but web: the program ", "")
	tablecloth(t, "init", "-").expect(t, exitDone, "services:\n  web:\n", "")
	tablecloth(t, "init", "sub/dir/x.yaml").expect(t, exitFailed, "", "sub/dir/x.yaml")
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.yaml")
	if err := os.WriteFile(path, []byte("services:\n  web:\n    comand: x\n    workers: -1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := "tablecloth: error: FILE:3:5: unknown key \"comand\"\n" +
		"    3 |     comand: x\n      |     ^\n" +
		"tablecloth: hint: did you mean command?\n" +
		"tablecloth: error: FILE:4:14: workers: -1: 1 or more is needed\n" +
		"    4 |     workers: -1\n      |              ^\n"
	want = strings.ReplaceAll(want, "FILE", path)
	r := tablecloth(t, "check", "-f", path)
	if r.expect(t, exitFailed, "", want); r.stderr != want {
		t.Errorf("%s", r.stderr)
	}
	// run refuses the same, and starts nothing.
	if r := tablecloth(t, "run", "-f", path); r.status != exitKeeper || r.stderr != want {
		t.Errorf("%d %s", r.status, r.stderr)
	}
	r = tablecloth(t, "check", "-f", path, "--json")
	var got checked
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.status != exitFailed {
		t.Fatal(err, r)
	}
	if e := got.Errors[1]; len(got.Errors) != 2 || e.Line != 4 || e.Column != 14 || e.File != path {
		t.Errorf("%+v", got)
	}
}

// A file excludes what is said in it; the keeper's own flags go beside it.
func TestRunWithFileAndFlags(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.yaml")
	if err := os.WriteFile(path, []byte("services:\n  web:\n    command: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		stderr string
	}{
		{[]string{"--workers", "2"}, "--workers: with --file this is said there (workers)"},
		{[]string{"--chdir", "/"}, "--chdir: with --file this is said there (directory)"},
		{[]string{"--name", "x"}, "--name: with --file this is said there"},
		{[]string{"--", "x"}, "x: with --file its services are what is run"},
		{[]string{"--workers", "0"}, "1 or more is needed"},
		{[]string{"--kill-timeout", "30"}, "did you mean 30s?"},
		{[]string{"--restart", "on_failure"}, "did you mean on-failure?"},
	} {
		tablecloth(t, append([]string{"run", "-f", path}, c.args...)...).expect(t, exitKeeper, "", c.stderr)
	}
}
