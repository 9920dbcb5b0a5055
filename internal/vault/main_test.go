//go:build linux

package vault

import (
	"os"
	"testing"
)

// The test binary is the keeper; started again with this variable it plays a
// part of its own.
const roleVariable = "VAULT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "worker":
		workerMain()
	case "clients":
		clientsMain()
	case "keeper":
		keeperMain()
	default:
		os.Exit(m.Run())
	}
}
