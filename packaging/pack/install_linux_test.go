package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// manager is what installs packages of a kind.
type manager struct {
	format          string
	install, remove []string // install is followed by a path
}

var managers = []manager{
	{"deb", []string{"dpkg", "--install"}, []string{"dpkg", "--purge", "tablecloth"}},
	{"rpm", []string{"rpm", "--upgrade", "--nodeps"}, []string{"rpm", "--erase", "tablecloth"}},
}

// installed is what a package must have brought, at the least.
var installed = []string{
	"/usr/bin/tablecloth",
	"/usr/share/man/man1/tablecloth.1.gz",
	"/usr/share/man/man1/tablecloth-run.1.gz",
	"/usr/share/bash-completion/completions/tablecloth",
	"/usr/share/fish/vendor_completions.d/tablecloth.fish",
	"/usr/lib/systemd/system/tablecloth@.service",
	"/usr/share/doc/tablecloth/README.md",
	"/usr/share/doc/tablecloth/examples/http/main.go",
	"/etc/tablecloth",
}

// The package is installed, upgraded while a service runs that it keeps, and
// removed under it: the service loses nothing.
func TestInstallUpgradeRemove(t *testing.T) {
	for _, m := range managers {
		t.Run(m.format, func(t *testing.T) {
			t.Parallel()
			_, err := exec.LookPath(m.install[0])
			testenv.Need(t, m.install[0], err == nil)
			s := &site{privateRoot: newPrivateRoot(t, dist), manager: m}
			s.installs(older)
			for _, path := range installed {
				if !s.has(path) {
					t.Errorf("the package has not brought %s", path)
				}
			}
			s.start()
			keeper := s.status().Keeper.PID
			load := s.load()

			s.installs(newer)
			if now := s.status(); now.Keeper.PID != keeper || now.Services[0].Generation != 1 {
				t.Errorf("the upgrade of the package has touched the service: %+v", now)
			}
			// New commands, old keeper.
			s.do("tablecloth", "upgrade", "--control", socket)
			s.sees(2)
			// The old keeper starts itself again, from a file that is gone.
			s.do("tablecloth", "restart", "--control", socket)
			s.sees(3)

			s.removes()
			s.do("kill", "-HUP", strconv.Itoa(keeper))
			s.sees(4)
			report := load()
			if err := report.Err(); err != nil || report.Total.Moved == 0 {
				t.Errorf("%d moved, %v", report.Total.Moved, err)
			}
			testenv.Result(t, "%d requests, %d connections moved", report.Total.Requests, report.Total.Moved)
			s.do("kill", strconv.Itoa(keeper))
			proctest.Poll(s, "the end of the keeper", func() bool { return s.command("kill", "-0", strconv.Itoa(keeper)).Run() != nil })
		})
	}
}

const socket = "/run/control"

// site is a private root with a package, and a service that it keeps.
type site struct {
	*privateRoot
	manager manager
	answers *strict.Running
}

func (s *site) installs(version string) {
	s.Helper()
	s.do(append(s.manager.install, "/mnt/"+strings.TrimPrefix(packagePath(version, s.manager.format), dist))...)
	if v := s.do("tablecloth", "version"); !strings.HasPrefix(v, "tablecloth v"+version+" (commit 0123456789ab, ") {
		s.Errorf("after the installation of %s: %s", version, v)
	}
}

func (s *site) removes() {
	s.Helper()
	s.do(s.manager.remove...)
	for _, path := range installed {
		if s.has(path) {
			s.Errorf("the package has left %s", path)
		}
	}
	if left := s.do("find", "/usr", "/etc", "-xdev", "-path", "*tablecloth*"); left != "" {
		s.Errorf("the package has left %s", left)
	}
}

func (s *site) start() {
	s.Helper()
	s.spawn("tablecloth", "run", "--control", socket, "--", "/mnt/demo", "-web", "127.0.0.1:0", "-api", "")
	proctest.Poll(s, "the service", func() bool {
		return s.command("tablecloth", "status", "--control", socket).Run() == nil && s.status().Services[0].State == control.Serving
	})
}

func (s *site) status() control.Status {
	s.Helper()
	out, err := s.command("tablecloth", "status", "--control", socket, "--json").Output()
	var st control.Status
	if err == nil {
		err = json.Unmarshal(out, &st)
	}
	if err != nil || len(st.Services) != 1 {
		s.Fatalf("status: %v\n%s", err, out)
	}
	return st
}

// load begins, and returns what ends it.
func (s *site) load() (stop func() *strict.Report) {
	s.Helper()
	text := strings.Join(s.status().Services[0].Listen, " ")
	addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(text)
	if addr == "" {
		s.Fatalf("listens on %q", text)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.answers = strict.Load{Network: "tcp", Addr: addr, Timeout: proctest.Patience(s), Groups: []strict.Group{
		{Kind: strict.Post, N: 5}, {Kind: strict.Slow, N: 5}, {Kind: strict.Idle, N: 5}, {Kind: strict.Connect, Rate: 20},
	}}.Start(ctx)
	s.Cleanup(func() { cancel(); s.answers.Wait() })
	return func() *strict.Report { cancel(); return s.answers.Wait() }
}

// sees waits for an answer of a generation.
func (s *site) sees(generation int) {
	s.Helper()
	proctest.Await(s, fmt.Sprintf("an answer of generation %d", generation), s.answers.Answered(generation))
}
