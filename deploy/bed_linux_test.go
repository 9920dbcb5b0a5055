package deploy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

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

// begin starts what starts the service, and kills it at the end if need be. The
// channel is closed when it has ended.
func (s *site) begin(cmd *exec.Cmd) (ended <-chan struct{}) {
	s.Helper()
	out := s.log(filepath.Base(cmd.Path))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	ended = proctest.Waited(cmd)
	s.Cleanup(func() {
		if s.client != nil {
			ctx, cancel := context.WithTimeout(context.Background(), proctest.Patience(s))
			defer cancel()
			s.client.Stop(ctx, control.StopRequest{Now: true})
		}
		cmd.Process.Kill()
		<-ended
	})
	if s.client = proctest.DialWhenThere(s.socket, ended); s.client == nil {
		s.Fatal("it has ended")
	}
	proctest.Poll(s, "the service", func() bool { return s.worker().PID != 0 })
	return ended
}

// load begins with clients that forgive nothing.
func (s *site) load() {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.answers = strict.Load{Network: "tcp", Addr: s.web, Timeout: proctest.Patience(s), Groups: []strict.Group{
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
	proctest.Await(s, fmt.Sprintf("an answer of generation %d", generation), s.answers.Answered(generation))
}

// worker is the process that serves; its PID is 0 if none does.
func (s *site) worker() (w control.Worker) {
	ctx, cancel := context.WithTimeout(context.Background(), proctest.Patience(s))
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
	proctest.Poll(s, "the next generation", func() bool {
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
	proctest.Poll(s, "the end of the service", func() bool {
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

func kill9(pid int) { syscall.Kill(pid, syscall.SIGKILL) }

func itoa(n int) string { return strconv.Itoa(n) }
