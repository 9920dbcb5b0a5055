package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of keys in docs/config.md anew")

const (
	manual = "../../../docs/config.md"
	begin  = "<!-- Made of the options themselves: go test ./cmd/internal/config -run TestTheManual -update -->\n"
	end    = "<!-- end -->\n"
)

// TestTheManualHasAllKeys: docs/config.md says what the options say.
func TestTheManualHasAllKeys(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	there, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the keys", manual)
	}
	want := "\n" + Reference() + "\n"
	if *update {
		if err := os.WriteFile(manual, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if there != want {
		t.Errorf("%s is stale: go test ./cmd/internal/config -run TestTheManual -update", manual)
	}
}

// TestTheManualsExamplesAreRight: its YAML can be used as it is there.
func TestTheManualsExamplesAreRight(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, part := range strings.Split(string(text), "```yaml\n")[1:] {
		example, _, _ := strings.Cut(part, "```")
		if _, err := Parse("config.md", t.TempDir(), []byte(example)); err != nil {
			t.Errorf("%v\n%s", err, example)
		}
		n++
	}
	if n == 0 {
		t.Error("there are none")
	}
}
