// Package testenv says what tests find on the machine that they run on.
package testenv

import (
	"fmt"
	"os"
	"testing"
)

// Variables of the environment that tests obey.
const (
	CI   = "TABLECLOTH_CI"   // what a test needs must be there
	Soak = "TABLECLOTH_SOAK" // full counts
	// Results names a file to which tests append what they have seen.
	Results = "TABLECLOTH_SOAK_RESULTS"
)

// Need skips the test if the machine doesn't have what it needs, and says so.
// Where everything ought to be there ($TABLECLOTH_CI) the test fails instead.
func Need(t testing.TB, what string, have bool) {
	t.Helper()
	switch {
	case have:
	case os.Getenv(CI) != "":
		t.Fatalf("needs %s, which has to be here: $%s is set", what, CI)
	default:
		t.Skipf("needs %s", what)
	}
}

// Count is how often something is done: few times, or as often as it takes to
// be sure ($TABLECLOTH_SOAK).
func Count(few, full int) int {
	if os.Getenv(Soak) != "" {
		return full
	}
	return few
}

// Result notes what a test has seen, in a sentence: in its log, and in the
// report of a soak.
func Result(t testing.TB, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	t.Log(text)
	path := os.Getenv(Results)
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s\t%s\n", t.Name(), text); err != nil {
		t.Error(err)
	}
}
