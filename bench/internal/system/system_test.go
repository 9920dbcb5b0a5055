package system

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Catalogue() {
		if s.Name == "" || s.Title == "" || s.Setup == "" || s.start == nil || s.upgrade == nil || seen[s.Name] {
			t.Errorf("%+v", s)
		}
		seen[s.Name] = true
	}
	if _, err := Find("nonsense"); err == nil {
		t.Error("found a system that isn't there")
	}
}

func TestDescendantsAndTheirDeath(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if !slices.Contains(descendants(), pid) {
		t.Errorf("a child is not among %v", descendants())
	}
	if s, ok := readStat(pid); !ok || s.parent != os.Getpid() || s.zombie {
		t.Errorf("%+v, %v", s, ok)
	}
	// Not of the child: the kernel counts the first pages late.
	if s, ok := readStat(os.Getpid()); !ok || s.memory < 1<<20 || used(os.Getpid()) <= 0 {
		t.Errorf("%+v, %v, %v of CPU time", s, ok, used(os.Getpid()))
	}
	if AwaitDeath([]int{pid}, time.Millisecond) {
		t.Error("it lives, but counts as dead")
	}
	cmd.Process.Kill()
	if !AwaitDeath([]int{pid}, 10*time.Second) {
		t.Error("killed, but not dead")
	}
	if slices.Contains(descendants(), pid) {
		t.Error("a zombie counts as alive")
	}
	cmd.Wait()
}

func TestConfigurationsCountGenerations(t *testing.T) {
	for _, name := range []string{"nginx.conf", "haproxy.cfg"} {
		i := &Instance{System: &System{}, Addr: "127.0.0.1:1", Dir: t.TempDir()}
		for want := 1; want <= 2; want++ {
			if _, err := i.configure(name); err != nil {
				t.Fatal(err)
			}
			if i.Generation() != want {
				t.Errorf("%s: generation %d, want %d", name, i.Generation(), want)
			}
		}
	}
}
