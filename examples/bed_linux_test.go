package examples_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// mode is how a service is run.
type mode string

const (
	alone mode = "alone"
	kept  mode = "kept"
)

// bed is a running example.
type bed struct {
	*testing.T
	client *control.Client
	addr   string
	ended  <-chan struct{} // the first process
}

// start runs an example on a port of its own.
func start(t *testing.T, m mode, program string, args ...string) *bed {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "control")
	argv := append([]string{filepath.Join(bin, program), "-listen", "127.0.0.1:0"}, args...)
	if m == kept {
		argv = append([]string{filepath.Join(bin, "tablecloth"), "run", "--"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	tag := control.EnvPath + "=" + socket
	cmd.Env = append(os.Environ(), tag)
	var log proctest.Log
	log.Start(t, cmd)
	b := &bed{T: t, ended: proctest.Waited(cmd)}
	t.Cleanup(func() {
		if b.client != nil {
			ctx, cancel := context.WithTimeout(context.Background(), proctest.Patience(t))
			defer cancel()
			b.client.Stop(ctx, control.StopRequest{})
		}
		proctest.NoneLeft(t, tag)
		log.Report(t)
	})
	if b.client = proctest.DialWhenThere(socket, b.ended); b.client == nil {
		t.Fatal("it has ended")
	}
	b.serves(1)
	b.addr = b.listens()
	return b
}

// serves waits until a generation serves.
func (b *bed) serves(generation int) {
	b.Helper()
	proctest.Poll(b, fmt.Sprintf("generation %d", generation), func() bool { return b.serving() == generation })
}

func (b *bed) status() control.Status {
	b.Helper()
	st, err := b.client.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return st
}

// server is the process that serves; its PID is 0 if none does.
func server(st control.Status) control.Process {
	if len(st.Services) != 1 {
		return control.Process{}
	}
	for _, g := range st.Services[0].Generations {
		if g.Number == st.Services[0].Generation && g.State == control.Serving && len(g.Workers) == 1 {
			return g.Workers[0].Process
		}
	}
	return control.Process{}
}

// serving is the number of the generation that serves; 0: none.
func (b *bed) serving() int {
	b.Helper()
	st := b.status()
	if server(st).PID == 0 {
		return 0
	}
	return st.Services[0].Generation
}

// listens is the address that the kernel chose.
func (b *bed) listens() string {
	b.Helper()
	all := fmt.Sprint(b.status().Services[0].Listen)
	addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(all)
	if addr == "" {
		b.Fatalf("listens on %s", all)
	}
	return addr
}

func (b *bed) upgrade() {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), proctest.Patience(b))
	defer cancel()
	out, err := b.client.Upgrade(ctx, control.UpgradeRequest{})
	if err != nil || out.Result != control.Ready || !out.Confirmed {
		b.Fatalf("upgrade: %+v, %v", out, err)
	}
}

// kill ends the process that serves as the kernel would when out of memory.
func (b *bed) kill() {
	b.Helper()
	if err := syscall.Kill(server(b.status()).PID, syscall.SIGKILL); err != nil {
		b.Fatal(err)
	}
}
