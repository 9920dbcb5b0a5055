//go:build unix

package upgrader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"

	"github.com/tablecloth-go/tablecloth/internal/gate"
)

// This file is all that knows tableflip, which starts the next process. Of what
// it offers we use one file and one blocking call; everything else has a trap:
//
//   - Its Ready is called when the predecessor has ended, so that the
//     predecessor's Upgrade stays pending through its drain: it returns if the
//     child dies, and a process whose Upgrade has succeeded can never upgrade
//     again. Its own timeout is set out of reach.
//   - Its Stop is never called: it kills a child, also one that has said that it
//     is ready.
//   - Listeners don't travel as such: a child that fails would unlink the paths
//     of live unix sockets, and port 0 is not inherited.

// linkFile is the name of the one file that travels through tableflip.
const linkFile = "tablecloth"

// sentinel is how tableflip tells a process that it has a parent. Programs that
// the service starts must not believe that of themselves.
const sentinel = "TABLEFLIP_HAS_PARENT_7DIU3"

var initialDir, _ = os.Getwd()

func init() { os.Args[0] = program() }

// program returns the absolute path of this program as it was started, symlinks
// unresolved: what they point to may have changed when the next generation is
// started.
func program() string {
	exe, exeErr := os.Executable()
	path, err := exec.LookPath(os.Args[0])
	if err == nil || errors.Is(err, exec.ErrDot) {
		if path, err = filepath.Abs(path); err == nil && (exeErr != nil || sameFile(path, exe)) {
			return path
		}
	}
	if exeErr != nil {
		return os.Args[0]
	}
	return exe
}

func sameFile(a, b string) bool {
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(sa, sb)
}

type flip struct{ t *tableflip.Upgrader }

// newFlip returns tableflip's Upgrader of this process. It fails at the second
// call.
func newFlip() (*flip, error) {
	t, err := tableflip.New(tableflip.Options{UpgradeTimeout: math.MaxInt64})
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "tableflip: "))
	}
	os.Unsetenv(sentinel)
	if t.HasParent() {
		// tableflip leaves its two pipes open for programs that we start.
		syscall.CloseOnExec(3)
		syscall.CloseOnExec(4)
	}
	return &flip{t}, nil
}

// parentLink returns our private link's end; nil: there is no predecessor, or
// one without this library.
func (f *flip) parentLink() (*os.File, error) { return f.t.Fds.File(linkFile) }

// hasParent reports whether another generation has started this process.
func (f *flip) hasParent() bool { return f.t.HasParent() }

// foreignListener returns a listener that a predecessor without this library has
// passed; nil: it has none.
func (f *flip) foreignListener(network, addr string) gate.Socket {
	ln, err := f.t.Fds.Listener(network, addr)
	if err != nil || ln == nil {
		return nil
	}
	if ul, ok := ln.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false)
	}
	sock, ok := ln.(gate.Socket)
	if !ok {
		ln.Close()
		return nil
	}
	return sock
}

// settle makes this process able to upgrade, once its predecessor has ended or,
// without this library, is to be told that it may. That nobody listens any more
// is what is expected.
func (f *flip) settle() error {
	if err := f.t.Ready(); err != nil && !errors.Is(err, syscall.EPIPE) && !strings.Contains(err.Error(), "broken pipe") {
		return err
	}
	return nil
}

// waitParent waits for the end of a predecessor without this library.
func (f *flip) waitParent() { f.t.WaitForParent(context.Background()) }

// start starts the next process, giving it theirs. The channel gets nil when a
// program without this library says that it is ready, else how the process
// ended: an *exitError, or why it could not be started.
func (f *flip) start(theirs *os.File) <-chan error {
	done := make(chan error, 1)
	if err := f.t.Fds.AddFile(linkFile, theirs); err != nil {
		done <- fmt.Errorf("pass the private link: %w", err)
		return done
	}
	go func() { done <- f.upgrade() }()
	return done
}

// busyFor is how long a program may be open for writing somewhere (ETXTBSY): one
// that was just written is so for a moment in every child that its writer forks.
const busyFor = time.Second

// upgrade is tableflip's, without its moments of unreadiness: its own goroutine
// hears of Ready and of the parent's end a little later than we do.
func (f *flip) upgrade() error {
	start := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := f.t.Upgrade()
		switch {
		case err == nil:
			return nil
		case err.Error() == "process is not ready yet", err.Error() == "parent hasn't exited":
		case strings.HasSuffix(err.Error(), syscall.ETXTBSY.Error()) && time.Since(start) < busyFor:
		default:
			return explain(err)
		}
		time.Sleep(wait)
	}
}

// exitError is how a process ended that was not ready.
type exitError struct {
	pid  int
	exit string // "exit status 7", "signal: killed"
	code *int   // nil: by a signal
}

func (e *exitError) Error() string { return "the new process ended before it was ready: " + e.exit }

var exited = regexp.MustCompile(`^child pid=(\d+) exited(?:: (.*))?$`)

// explain makes an error of ours of one of tableflip's, which are texts.
func explain(err error) error {
	m := exited.FindStringSubmatch(err.Error())
	if m == nil {
		text := err.Error()
		for _, prefix := range []string{"can't start child: ", "can't start process " + os.Args[0] + ": ", "fork/exec: "} {
			text = strings.TrimPrefix(text, prefix)
		}
		if _, err := os.Stat(os.Args[0]); os.IsNotExist(err) && strings.Contains(os.Args[0], "go-build") {
			text += " (go run removes the binary that it has built: build it to a path that stays)"
		}
		return fmt.Errorf("can't start %s: %s", os.Args[0], text)
	}
	e := &exitError{exit: m[2]}
	e.pid, _ = strconv.Atoi(m[1])
	if e.exit == "" {
		e.exit = "exit status 0"
	}
	if status, ok := strings.CutPrefix(e.exit, "exit status "); ok {
		if code, err := strconv.Atoi(status); err == nil {
			e.code = &code
		}
	}
	return e
}

// lastWords makes the file in which the next process leaves the text of a crash.
// It has no name.
func lastWords() (*os.File, error) { return anonymousFile("tablecloth-last-words") }

// readWords returns what is in there.
func readWords(f *os.File) []string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxWords))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\n"), "\n")
}
