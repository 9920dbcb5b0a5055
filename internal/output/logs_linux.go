package output

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Logs is where all output goes: the workers', and the keeper's own.
type Logs struct {
	conf     Options
	out, err *outlet // the same one if there is a file
	own      meter

	mu     sync.Mutex
	meters map[string]*meter
	open   map[*stream]bool // being read
}

// Open opens the file, if there is to be one.
func Open(o Options) (*Logs, error) {
	l := &Logs{conf: o, meters: map[string]*meter{}, open: map[*stream]bool{}}
	if o.File == "" {
		l.out, l.err = newOutlet(os.Stdout), newOutlet(os.Stderr)
		return l, nil
	}
	f, err := openFile(o.File)
	if err != nil {
		return nil, err
	}
	l.out = newOutlet(f)
	l.err = l.out
	return l, nil
}

func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return f, nil
}

// Reopen makes the file anew which somebody has renamed.
func (l *Logs) Reopen() error {
	f, err := openFile(l.conf.File)
	if err != nil {
		return err
	}
	l.out.replace(f)
	return nil
}

// Logger is the keeper's own. It never blocks.
func (l *Logs) Logger() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(ownWriter{l})
	if l.conf.Quiet {
		log.SetLevel(logrus.WarnLevel)
	}
	text := &logrus.TextFormatter{ForceColors: l.conf.File == "" && term.IsTerminal(2)}
	switch {
	case l.conf.Format == JSON:
		log.SetFormatter(&ownObjects{logrus.JSONFormatter{TimestampFormat: stamp, DisableHTMLEscape: true}})
	case l.conf.Prefix:
		log.SetFormatter(&ownPrefixed{text, fmt.Appendf(nil, "[tablecloth - %d] ", os.Getpid())})
	default:
		log.SetFormatter(text)
	}
	return log
}

// ownWriter takes the keeper's own lines. They wait for nobody: the keeper would
// hang.
type ownWriter struct{ l *Logs }

var _ io.Writer = ownWriter{}

func (w ownWriter) Write(b []byte) (int, error) {
	if !w.l.err.putOwn(&w.l.own, b) {
		w.l.own.drop(1, len(b))
	}
	return len(b), nil
}

// Tail is for one worker. The last lines of the descriptors that are held, 1 and
// 2, are kept for reports.
func (l *Logs) Tail(of Source, held ...int) (*Tail, error) {
	t := &Tail{}
	for _, n := range []int{2, 1} {
		holds := slices.Contains(held, n)
		if !holds && !l.conf.shaped() {
			continue
		}
		s, err := newStream(n)
		if err != nil {
			t.Close()
			return nil, err
		}
		s.t, s.held = t, holds
		l.connect(s, of)
		t.pipes = append(t.pipes, s)
	}
	return t, nil
}

// connect says where a stream leads to.
func (l *Logs) connect(s *stream, from Source) {
	s.logs, s.Source = l, from
	s.form, s.meter, s.to, s.stream = l.conf.form(), l.meter(from.Service), l.err, "stderr"
	if s.n == 1 {
		s.to, s.stream = l.out, "stdout"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[s] = true
}

// forget a stream that has come to its end.
func (l *Logs) forget(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, s)
}

func (l *Logs) meter(service string) *meter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.meters[service] == nil {
		l.meters[service] = &meter{}
	}
	return l.meters[service]
}

// Passed is what has passed for a service, or could not; nil: nothing did.
func (l *Logs) Passed(service string) *control.Output {
	l.mu.Lock()
	m := l.meters[service]
	l.mu.Unlock()
	if m == nil {
		return nil
	}
	return &control.Output{Lines: m.lines.Load(), Bytes: m.bytes.Load(),
		DroppedLines: m.droppedLines.Load(), DroppedBytes: m.droppedBytes.Load()}
}

// Close sees to it that the last words of dead workers are passed on. It waits for
// a reader that has stopped reading for a second at most.
func (l *Logs) Close() {
	end := time.Now().Add(lastWrites)
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	for _, s := range open {
		s.settle(end)
	}
	l.out.close()
	if l.err != l.out {
		l.err.close()
	}
}

// settle waits until a stream has come to its end, or has nothing more to say:
// somebody may have inherited it.
func (s *stream) settle(end time.Time) {
	for silent := time.Now(); time.Since(silent) < lastWords && time.Now().Before(end); {
		select {
		case <-s.done:
			return
		case <-time.After(time.Millisecond):
		}
		if s.unread() {
			silent = time.Now()
		}
	}
}

func (s *stream) unread() bool {
	left := 0
	if raw, err := s.in.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return left > 0
}
