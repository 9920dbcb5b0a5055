package deploy_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// patience bounds what takes milliseconds on an idle machine.
const patience = time.Minute

// site is a service on ports of its own, which somebody else starts.
type site struct {
	*testing.T
	socket  string // control
	web     string // addresses
	metrics string
	client  *control.Client
	answers *strict.Running
	stop    context.CancelFunc
}

func newSite(t *testing.T) *site {
	t.Helper()
	return &site{T: t, socket: filepath.Join(t.TempDir(), "control"), web: proctest.FreeAddr(t), metrics: proctest.FreeAddr(t)}
}

// here says ports and paths of this site instead of those in a file. The program
// is the demo, whose options have other names than those of the example.
func (s *site) here(text string) string {
	return strings.NewReplacer(
		":8080", s.web,
		":9100", s.metrics,
		"/run/tablecloth/app", s.socket,
		"/usr/local/bin/app", filepath.Join(bin, "app"),
		"-- /usr/local/bin/app -listen", "-- "+filepath.Join(bin, "app")+" -api= -web",
	).Replace(text)
}

func (s *site) log(name string) *os.File {
	s.Helper()
	f, err := os.Create(filepath.Join(s.TempDir(), name))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		f.Close()
		if s.Failed() {
			text, _ := os.ReadFile(f.Name())
			s.Logf("%s:\n%s", name, text)
		}
	})
	return f
}

// begin starts what starts the service, and kills it at the end if need be.
func (s *site) begin(cmd *exec.Cmd) {
	s.Helper()
	out := s.log(filepath.Base(cmd.Path))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if s.client != nil {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			s.client.Stop(ctx, control.StopRequest{Now: true})
		}
		cmd.Process.Kill()
		cmd.Wait()
	})
	s.wait("the service", func() bool {
		var err error
		s.client, err = control.Dial(s.socket)
		return err == nil && s.worker().PID != 0
	})
}

// load begins with clients that forgive nothing.
func (s *site) load() {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.answers = strict.Load{Network: "tcp", Addr: s.web, Timeout: patience, Groups: []strict.Group{
		{Kind: strict.Post, N: 5}, {Kind: strict.Slow, N: 5}, {Kind: strict.Idle, N: 5}, {Kind: strict.Connect, Rate: 20},
	}}.Start(ctx)
	s.Cleanup(func() { cancel(); s.answers.Wait() })
	s.sees(1)
}

// unharmed ends the load: nothing was lost.
func (s *site) unharmed() {
	s.Helper()
	s.stop()
	r := s.answers.Wait()
	if err := r.Err(); err != nil || r.Total.Moved == 0 {
		s.Errorf("%d moved, %v", r.Total.Moved, err)
	}
	testenv.Result(s, "%d requests, %d connections moved", r.Total.Requests, r.Total.Moved)
}

// sees waits for an answer of a generation.
func (s *site) sees(generation int) {
	s.Helper()
	select {
	case <-s.answers.Answered(generation):
	case <-time.After(patience):
		s.Fatalf("no answer of generation %d", generation)
	}
}

// worker is the process that serves; its PID is 0 if none does.
func (s *site) worker() (w control.Worker) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := s.client.Status(ctx)
	if err != nil || len(st.Services) != 1 || st.Services[0].State != control.Serving {
		return w
	}
	for _, g := range st.Services[0].Generations {
		if g.State == control.Serving {
			return g.Workers[0]
		}
	}
	return w
}

// killed ends the worker, and waits for the generation after. Requests under way
// are told so; nobody is refused.
func (s *site) killed(kill func(pid int), next int) {
	s.Helper()
	kill(s.worker().PID)
	s.wait("the next generation", func() bool {
		st, err := s.client.Status(s.Context())
		return err == nil && st.Services[0].Generation == next && s.worker().PID != 0
	})
	c, err := net.Dial("tcp", s.web)
	if err != nil {
		s.Error(err)
		return
	}
	c.Close()
}

func (s *site) gone() {
	s.Helper()
	s.wait("the end of the service", func() bool {
		_, err := control.Dial(s.socket)
		return err != nil
	})
}

func (s *site) do(name string, args ...string) {
	s.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		s.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// command is one that finds tablecloth, too.
func (s *site) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	return cmd
}

func (s *site) wait(what string, reached func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); !reached(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("%s takes more than %v", what, patience)
		}
	}
}

func kill9(pid int) { syscall.Kill(pid, syscall.SIGKILL) }

func itoa(n int) string { return strconv.Itoa(n) }
