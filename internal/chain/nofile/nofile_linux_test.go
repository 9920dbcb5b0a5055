//go:build amd64 || arm64

package nofile_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/chain/nofile"
)

func TestMain(m *testing.M) {
	if os.Getenv("NOFILE_TEST") != "" {
		fmt.Println(nofile.Soft, nofile.Hard)
		return
	}
	os.Exit(m.Run())
}

// The limits are those of the start, before anything has raised them.
func TestLimitsOfTheStart(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 123 && ulimit -Hn 456 && exec "$0"`, exe)
	cmd.Env = append(os.Environ(), "NOFILE_TEST=1")
	if out, err := cmd.CombinedOutput(); string(out) != "123 456\n" {
		t.Errorf("%q, %v", out, err)
	}
}
