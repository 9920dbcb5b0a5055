//go:build linux

package upgrader

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// A program that is still open for writing can be started a moment later.
func TestBusyProgram(t *testing.T) {
	s := newService(t, settings{}).start()
	path := filepath.Join(s.dir, "copy")
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	s.link(path)
	done := make(chan control.Outcome)
	go func() { done <- s.upgrade() }()
	s.await("RELOADING=1", func(m said) bool { return m.Has("RELOADING") })
	to.Close()
	if o := <-done; o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	// One that stays so can't be.
	to, err = os.OpenFile(s.bin+".2", os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	s.link(s.bin + ".2")
	if o := s.upgrade(); o.Result != control.Failed {
		t.Fatalf("%+v", o)
	}
}
