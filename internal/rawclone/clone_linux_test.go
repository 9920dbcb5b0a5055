//go:build amd64 || arm64

package rawclone

import (
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/rawclone/rawtest"
)

// TestCompiledCode: no stack check, no write barrier, no call of the runtime,
// nothing for the race detector.
func TestCompiledCode(t *testing.T) { rawtest.Compiled(t, []string{"Clone", "SwapMask"}) }
