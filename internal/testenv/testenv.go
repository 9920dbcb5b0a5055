// Package testenv says what tests find on the machine that they run on.
package testenv

import (
	"os"
	"testing"
)

// Variables of the environment that tests obey.
const (
	CI   = "TABLECLOTH_CI"   // what a test needs must be there
	Soak = "TABLECLOTH_SOAK" // full counts
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
