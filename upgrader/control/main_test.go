package control

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The test binary also plays a service whose control socket it has inherited.
func TestMain(m *testing.M) {
	if role := os.Getenv("CONTROL_TEST_ROLE"); role != "" {
		if err := play(role, os.Getenv("CONTROL_TEST_ID")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// play serves until it is killed. It says on stdout what it is asked.
func play(role, id string) error {
	raw, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	ln, err := Adopt(raw.(*net.UnixListener), raw.Addr().String(), ListenOptions{})
	if err != nil {
		return err
	}
	b := &fakeBackend{upgrade: func(_ context.Context, r UpgradeRequest) Outcome {
		fmt.Println("asked", r.ID)
		select {}
	}}
	s := &Server{Backend: b, Events: NewEvents(0)}
	switch role {
	case "asked": // never answers
		publish(s.Events, 3)
	case "successor":
		b.outcomes.Finish(Outcome{ID: id, Result: Ready, Generation: 2, PID: os.Getpid()})
		publish(s.Events, 1)
	case "ignorant":
	}
	fmt.Println("serving", s.Events.Origin())
	return s.Serve(ln)
}

// generation is a process that plays.
type generation struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startGeneration(t *testing.T, socket *os.File, role, id string) *generation {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONTROL_TEST_ROLE="+role, "CONTROL_TEST_ID="+id)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &generation{cmd, bufio.NewScanner(out)}
	t.Cleanup(g.kill)
	g.hears(t, "serving")
	return g
}

// hears waits for the next line, and returns what follows its first word.
func (g *generation) hears(t *testing.T, word string) string {
	t.Helper()
	if !g.lines.Scan() {
		t.Fatalf("the process has ended: no %q", word)
	}
	rest, ok := strings.CutPrefix(g.lines.Text(), word+" ")
	if !ok {
		t.Fatalf("%q instead of %q", g.lines.Text(), word)
	}
	return rest
}

func (g *generation) kill() {
	g.cmd.Process.Kill()
	g.cmd.Wait()
}
