//go:build linux

package keeper

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func init() {
	roles["as-speaking-keeper"] = asSpeakingKeeper
	roles["flood"] = flood
	roles["count"] = count
}

// asSpeakingKeeper has the log that it makes itself.
func asSpeakingKeeper(args []string) {
	var c Config
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		panic(err)
	}
	if os.Getenv("TEST_FORWARD") != "" {
		c.Forward = []os.Signal{syscall.SIGUSR1}
	}
	Exit(Run(context.Background(), c))
}

const floodLine = 1 << 10

// flood writes so many lines to stderr, and says in files when half of them and
// all are written.
func flood(args []string) {
	n, _ := strconv.Atoi(args[0])
	notifyReady()
	line := []byte(strings.Repeat("x", floodLine-1) + "\n")
	for i := range n {
		copy(line, fmt.Sprintf("line %d ", i))
		os.Stderr.Write(line)
		if i == n/2 {
			os.WriteFile(args[1]+".half", nil, 0o644)
		}
	}
	os.WriteFile(args[1]+".all", nil, 0o644)
	select {}
}

// count writes numbered lines to both outputs, until it is told to end; it says in
// a file that it was given SIGUSR1.
func count(args []string) {
	sig := make(chan os.Signal, 8)
	signal.Notify(sig, syscall.SIGUSR1, syscall.SIGTERM)
	notifyReady()
	for i := 0; ; i++ {
		fmt.Fprintf(os.Stdout, "out %d\n", i)
		fmt.Fprintf(os.Stderr, "err %d\n", i)
		if i%500 != 0 { // in bursts: lines straddle the writes of the keeper
			continue
		}
		select {
		case s := <-sig:
			if s == syscall.SIGTERM {
				return
			}
			os.WriteFile(args[0], nil, 0o644)
		case <-time.After(time.Millisecond):
		}
	}
}

// speaker is a keeper whose output is the test's.
type speaker struct {
	*bed
	out *os.File // its stdout and stderr come out here
}

func speak(t *testing.T, c Config) *speaker {
	t.Helper()
	dir := t.TempDir()
	c.Control = filepath.Join(dir, "control")
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := &speaker{bed: &bed{t: t, dir: dir, tag: "TEST_TAG=" + rand.Text(), conf: c}, out: r}
	s.cmd = exec.Command(self(t), "as-speaking-keeper", string(text))
	s.cmd.Stdout, s.cmd.Stderr = w, w
	s.cmd.Env = append(os.Environ(), s.tag, "GORACE=atexit_sleep_ms=0")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.waited = proctest.Waited(s.cmd)
	t.Cleanup(func() {
		proctest.End(t, s.cmd, s.waited, s.tag) // with nobody reading
		r.Close()
	})
	if s.client = proctest.DialWhenThere(c.Control, s.waited); s.client == nil {
		w.Close()
		b, _ := io.ReadAll(r)
		t.Fatalf("the keeper has ended: %s", b)
	}
	s.await(control.EventReady, 0)
	return s
}

// rest ends the keeper, and returns what comes out until then.
func (s *speaker) rest() string {
	s.cmd.Process.Signal(syscall.SIGTERM)
	b, err := io.ReadAll(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	<-s.waited
	return string(b)
}
