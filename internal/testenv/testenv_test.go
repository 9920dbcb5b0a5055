package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestNeed(t *testing.T) {
	if os.Getenv("TEST_NEED") != "" {
		Need(t, "a crystal ball", false)
		return
	}
	for _, c := range []struct{ ci, want string }{{"", "SKIP"}, {"1", "FAIL"}} {
		cmd := exec.Command(os.Args[0], "-test.run=TestNeed", "-test.v")
		cmd.Env = append(os.Environ(), "TEST_NEED=1", CI+"="+c.ci)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), "--- "+c.want) || !strings.Contains(string(out), "needs a crystal ball") || (err != nil) != (c.want == "FAIL") {
			t.Errorf("%s=%q: %v\n%s", CI, c.ci, err, out)
		}
	}
	Need(t, "nothing", true)
}

func TestCount(t *testing.T) {
	t.Setenv(Soak, "")
	if n := Count(3, 50); n != 3 {
		t.Error(n)
	}
	t.Setenv(Soak, "1")
	if n := Count(3, 50); n != 50 {
		t.Error(n)
	}
}

func TestResult(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results")
	t.Setenv(Results, path)
	Result(t, "%d seen", 1)
	Result(t, "%d seen", 2)
	if b, err := os.ReadFile(path); string(b) != "TestResult\t1 seen\nTestResult\t2 seen\n" {
		t.Errorf("%q, %v", b, err)
	}
}
