package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	s, err := Parse("t.yaml", dir, []byte("services:\n  web:\n    command: ./x\n    env_file: e\n"))
	if err != nil {
		t.Fatal(err)
	}
	missing := Missing(s)
	if len(missing) != 2 || !strings.Contains(missing[0], filepath.Join(dir, "x")) {
		t.Error(missing)
	}
	env := filepath.Join(dir, "e")
	for content, want := range map[string]string{
		"A=1\nwrong\n": "web: environment file " + env + ": line 2: not KEY=VALUE",
		"A=1\n":        "",
	} {
		if err := os.WriteFile(env, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(Missing(s)[1:], "; "); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}
