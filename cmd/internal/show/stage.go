package show

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// stage is where the service runs: a directory of its own, and a group of
// processes which are gone when the stage is closed.
//
//	demo -> release/demo    what the service starts; the symlink is switched
//	release/demo            a copy of this program
//	broken/demo             no program at all
//	control, pid, log
//	hold                    a socket: each process of the service ends when its
//	                        connection to it does
type stage struct {
	dir     string
	group   int // of processes; its number is that of the first one
	hold    *hold
	ready   chan Ready
	gone    chan struct{} // no process of the service is left
	reaped  chan struct{} // nor the first one's remains
	control *control.Client
	web     string
}

func (s *stage) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// newStage starts the service: program with args and flags for the paths.
func newStage(ctx context.Context, program string, args []string) (*stage, error) {
	s, err := buildStage(program)
	if err != nil {
		return nil, fmt.Errorf("build the stage: %w", err)
	}
	if err := s.start(args); err != nil {
		s.close()
		return nil, fmt.Errorf("start the service: %w", err)
	}
	first, err := s.await(ctx, 1)
	if err == nil {
		s.web = first.Web
		s.control, err = control.Dial(s.path("control"))
	}
	if err != nil {
		err = fmt.Errorf("%w%s", err, s.lastWords())
		s.close()
		return nil, err
	}
	return s, nil
}

func buildStage(program string) (s *stage, err error) {
	s = &stage{ready: make(chan Ready, 64), gone: make(chan struct{}), reaped: make(chan struct{})}
	if s.dir, err = os.MkdirTemp("", "tablecloth-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(s.dir)
		}
	}()
	for _, d := range []string{"release", "broken"} {
		if err := os.Mkdir(s.path(d), 0o755); err != nil {
			return nil, err
		}
	}
	// A copy: `go run` deletes the program that it has built.
	if err := copyProgram(s.path("release", "demo"), program); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.path("broken", "demo"), []byte("404: release not found\n"), 0o755); err != nil {
		return nil, err
	}
	if s.hold, err = newHold(s.path("hold")); err != nil {
		return nil, err
	}
	return s, os.Symlink(filepath.Join("release", "demo"), s.path("demo"))
}

func copyProgram(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// deploy switches the symlink that the service is started by.
func (s *stage) deploy(release string) error {
	next := s.path("demo.next")
	if err := os.Symlink(filepath.Join(release, "demo"), next); err != nil {
		return err
	}
	return os.Rename(next, s.path("demo"))
}

func (s *stage) start(args []string) error {
	log, err := os.Create(s.path("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	lines, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdout.Close()
	args = append(args, "--control", s.path("control"), "--pidfile", s.path("pid"), "--hold", s.path("hold"))
	cmd := exec.Command(s.path("demo"), args...)
	cmd.Stdout, cmd.Stderr = stdout, log
	cmd.Env = append(environment(), "TMPDIR="+s.dir) // what is killed can't clear up
	// A group of its own: Ctrl-C is for us alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		lines.Close()
		return err
	}
	s.group = cmd.Process.Pid
	go s.listen(lines)
	go func() {
		cmd.Wait()
		close(s.reaped)
	}()
	return nil
}

// environment is ours without what somebody has told us about our own life.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		for _, p := range []string{"NOTIFY_SOCKET=", "LISTEN_", "WATCHDOG_", "MAINPID=", "TABLECLOTH_"} {
			if strings.HasPrefix(v, p) {
				return true
			}
		}
		return false
	})
}

// listen reads what the generations say, until the last one has ended.
func (s *stage) listen(lines *os.File) {
	defer close(s.gone)
	defer lines.Close()
	for sc := bufio.NewScanner(lines); sc.Scan(); {
		var r Ready
		if json.Unmarshal(sc.Bytes(), &r) == nil && r.Generation > 0 {
			select {
			case s.ready <- r:
			default: // nobody waits for those
			}
		}
	}
}

// await returns what a generation, or a newer one, said when it was ready.
func (s *stage) await(ctx context.Context, generation int) (Ready, error) {
	for {
		select {
		case r := <-s.ready:
			if r.Generation >= generation {
				return r, nil
			}
		case <-s.gone:
			return Ready{}, errors.New("the service has ended")
		case <-ctx.Done():
			return Ready{}, fmt.Errorf("wait for generation %d: %w", generation, ctx.Err())
		}
	}
}

// close ends all processes at once, and removes what they leave.
func (s *stage) close() {
	s.hold.close()
	if s.group != 0 {
		s.kill()
	}
	os.RemoveAll(s.dir)
}

// kill ends those who don't care for the end of their hold.
func (s *stage) kill() {
	select {
	case <-s.gone: // and the group's number may be another's by now
	case <-time.After(300 * time.Millisecond):
		syscall.Kill(-s.group, syscall.SIGKILL)
		select {
		case <-s.gone:
		case <-time.After(time.Second):
		}
	}
	<-s.reaped
}

// lastWords is the end of the service's log.
func (s *stage) lastWords() string {
	b, _ := os.ReadFile(s.path("log"))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	lines = lines[max(0, len(lines)-10):]
	if lines[0] == "" {
		return ""
	}
	return "\n  " + strings.Join(lines, "\n  ")
}
