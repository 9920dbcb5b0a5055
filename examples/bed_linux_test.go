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
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// patience bounds what takes milliseconds on an idle machine.
const patience = time.Minute

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
	exited chan error // of the first process
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
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), control.EnvPath+"="+socket)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, exited: make(chan error, 1)}
	go func() { b.exited <- cmd.Wait() }()
	t.Cleanup(func() {
		b.end()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("log of %s, %s:\n%s", program, m, text)
		}
	})
	b.wait("its start", func() bool {
		b.client, err = control.Dial(socket)
		return err == nil && b.serving() == 1
	})
	b.addr = b.listens()
	return b
}

// end stops what is there, and kills what doesn't end.
func (b *bed) end() {
	if b.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pid := 0
	if st, err := b.client.Status(ctx); err == nil {
		pid = serves(st).PID
		b.client.Stop(ctx, control.StopRequest{})
	}
	for {
		_, err := control.Dial(b.client.Path())
		switch {
		case err != nil:
			return
		case ctx.Err() != nil:
			b.Errorf("it doesn't stop")
			syscall.Kill(pid, syscall.SIGKILL)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (b *bed) wait(what string, reached func() bool) {
	b.Helper()
	for end := time.Now().Add(patience); !reached(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s takes more than %v", what, patience)
		}
	}
}

func (b *bed) status() control.Status {
	b.Helper()
	st, err := b.client.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return st
}

// serves is the process that serves; its PID is 0 if none does.
func serves(st control.Status) control.Process {
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
	if serves(st).PID == 0 {
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
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	out, err := b.client.Upgrade(ctx, control.UpgradeRequest{})
	if err != nil || out.Result != control.Ready || !out.Confirmed {
		b.Fatalf("upgrade: %+v, %v", out, err)
	}
}

// kill ends the process that serves as the kernel would when out of memory.
func (b *bed) kill() {
	b.Helper()
	if err := syscall.Kill(serves(b.status()).PID, syscall.SIGKILL); err != nil {
		b.Fatal(err)
	}
}
