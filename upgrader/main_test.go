package upgrader

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// The test binary impersonates services: TestMain runs one of these if the
// environment names it.
var impersonations = map[string]func() error{}

const impersonate = "TABLECLOTH_TEST_IMPERSONATE"

func TestMain(m *testing.M) {
	name := os.Getenv(impersonate)
	if name == "" {
		os.Exit(m.Run())
	}
	run := impersonations[name]
	if run == nil {
		fmt.Fprintln(os.Stderr, "nobody to impersonate:", name)
		os.Exit(64)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// settings is what the test wants of the service's generations: read anew by
// each of them, as a new binary would be.
type settings struct {
	Version     string // told to clients
	Listen      []string
	KillTimeout int // milliseconds
	Ready       int // milliseconds, ReadyTimeout
	Stop        int // milliseconds, StopTimeout
	PIDFile     string
	Protocol    int
	MaxCrashes  int
	GiveUpPause int    // milliseconds
	Misbehave   string // see impersonateService
	Step        string // at which step
	StepDo      string // "kill" or "stop" itself, "term" the one in the PID file
	StepGen     int    // in which generation; 0: any
}

func (s settings) write(path string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func readSettings(path string) (s settings, err error) {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}
