package proctest

import (
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// FreeAddr is strict.FreeAddr, which must find one.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, err := strict.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
