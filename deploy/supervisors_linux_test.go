package deploy_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// supervisor is one that reads a directory.
type supervisor struct {
	dir     string
	begin   func(dir string) []string
	ready   func(dir string) []string
	upgrade func(dir string) []string
	end     func(dir string) []string
}

var supervisors = []supervisor{
	{
		dir:     "runit/app",
		begin:   func(dir string) []string { return []string{"runsv", dir} },
		ready:   func(dir string) []string { return []string{"sv", "-w", "60", "start", dir} },
		upgrade: func(dir string) []string { return []string{"sv", "hup", dir} },
		end:     func(dir string) []string { return []string{"sv", "-w", "60", "stop", dir} },
	},
	{
		dir:     "s6/app",
		begin:   func(dir string) []string { return []string{"s6-supervise", dir} },
		ready:   func(dir string) []string { return []string{"s6-svwait", "-U", "-t", "60000", dir} },
		upgrade: func(dir string) []string { return []string{"s6-svc", "-h", dir} },
		end:     func(dir string) []string { return []string{"s6-svc", "-wD", "-T", "60000", "-d", dir} },
	},
}

// Under runit and s6, with the directories that lie here.
func TestSupervisors(t *testing.T) {
	for _, v := range supervisors {
		t.Run(filepath.Dir(v.dir), func(t *testing.T) {
			t.Parallel()
			program := v.begin("")[0]
			_, err := exec.LookPath(program)
			testenv.Need(t, program, err == nil)
			s := newSite(t)
			dir := s.serviceDirectory(v.dir)
			start := v.begin(dir)
			s.begin(s.command(start[0], start[1:]...))
			run := func(args []string) { t.Helper(); s.do(args[0], args[1:]...) }
			run(v.ready(dir))
			s.load()
			run(v.upgrade(dir))
			s.sees(2)
			run(v.upgrade(dir))
			s.sees(3)
			s.unharmed()
			s.killed(kill9, 4)
			run(v.end(dir))
			s.gone()
		})
	}
}

// serviceDirectory copies one, with what is this site's own. Its log goes where
// the test's does.
func (s *site) serviceDirectory(from string) string {
	s.Helper()
	to := filepath.Join(s.TempDir(), "app")
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if e.Name() == "log" {
				return filepath.SkipDir
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), []byte(s.here(string(text))), info.Mode())
	})
	if err != nil {
		s.Fatal(err)
	}
	return to
}
