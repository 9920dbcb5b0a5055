//go:build linux && (amd64 || arm64)

package vault

import (
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/rawclone/rawtest"
)

// TestCompiledCode is about the functions that run in the vault: no stack check, no
// write barrier, no call of the runtime, nothing for the race detector.
func TestCompiledCode(t *testing.T) {
	rawtest.Compiled(t, []string{"launch", "serve", "introduce", "receive", "exit",
		"watchParent", "await", "handle", "fetch", "fail", "scan", "option", "respond"})
}
