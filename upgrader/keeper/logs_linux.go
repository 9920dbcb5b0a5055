package keeper

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// logs is where all output goes: the workers', and the keeper's own.
type logs struct {
	conf     *Output
	out, err *outlet // the same one if there is a file
	own      meter

	mu     sync.Mutex
	meters map[string]*meter
	open   map[*stream]bool // being read
}

func openLogs(conf *Output) (*logs, error) {
	l := &logs{conf: conf, meters: map[string]*meter{}, open: map[*stream]bool{}}
	if conf.File == "" {
		l.out, l.err = newOutlet(os.Stdout), newOutlet(os.Stderr)
		return l, nil
	}
	f, err := openLogFile(conf.File)
	if err != nil {
		return nil, &Error{Err: err}
	}
	l.out = newOutlet(f)
	l.err = l.out
	return l, nil
}

func openLogFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return f, nil
}

// reopen makes the file anew which somebody has renamed.
func (l *logs) reopen() error {
	f, err := openLogFile(l.conf.File)
	if err != nil {
		return err
	}
	l.out.replace(f)
	return nil
}

// logger is the keeper's own.
func (l *logs) logger() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(ownWriter{l})
	if l.conf.Quiet {
		log.SetLevel(logrus.WarnLevel)
	}
	text := &logrus.TextFormatter{ForceColors: l.conf.File == "" && term.IsTerminal(2)}
	switch {
	case l.conf.Format == FormatJSON:
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
type ownWriter struct{ l *logs }

var _ io.Writer = ownWriter{}

func (w ownWriter) Write(b []byte) (int, error) {
	if !w.l.err.putOwn(&w.l.own, b) {
		w.l.own.drop(1, len(b))
	}
	return len(b), nil
}

// tail is for one worker.
func (l *logs) tail(of *launch) (*tail, error) {
	t := &tail{}
	for _, n := range []int{2, 1} {
		held := of.conf.Capture == "all" || of.conf.Capture == "stderr" && n == 2
		if !held && !l.conf.shaped() {
			continue
		}
		s, err := newStream(n)
		if err != nil {
			t.close()
			return nil, err
		}
		s.t, s.held = t, held
		l.connect(s, source{service: of.conf.Name, generation: of.generation, worker: of.index})
		t.pipes = append(t.pipes, s)
	}
	return t, nil
}

// connect says where a stream leads to.
func (l *logs) connect(s *stream, from source) {
	s.source = from
	s.form, s.meter, s.to, s.stream = l.conf.form(), l.meter(from.service), l.err, "stderr"
	if s.n == 1 {
		s.to, s.stream = l.out, "stdout"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for old := range l.open {
		if isClosed(old.done) {
			delete(l.open, old)
		}
	}
	l.open[s] = true
}

func (l *logs) meter(service string) *meter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.meters[service] == nil {
		l.meters[service] = &meter{}
	}
	return l.meters[service]
}

// output is what has passed for a service, or could not; nil: nothing did.
func (l *logs) output(service string) *control.Output {
	l.mu.Lock()
	m := l.meters[service]
	l.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.output()
}

func (m *meter) output() *control.Output {
	return &control.Output{Lines: m.lines.Load(), Bytes: m.bytes.Load(),
		DroppedLines: m.droppedLines.Load(), DroppedBytes: m.droppedBytes.Load()}
}

// close sees to it that the last words of dead workers are passed on.
func (l *logs) close() {
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

func (k *keeper) openLogs() (err error) {
	if err := k.conf.Output.fill(); err != nil {
		return err
	}
	if k.logs, err = openLogs(&k.conf.Output); err != nil {
		return err
	}
	if k.conf.Log == nil {
		k.conf.Log = k.logs.logger()
	}
	return nil
}

// reopenLogs is what SIGUSR1 means if there is a log file.
func (k *keeper) reopenLogs(sig os.Signal) {
	if sig != syscall.SIGUSR1 || k.conf.Output.File == "" {
		return
	}
	if err := k.logs.reopen(); err != nil {
		k.conf.Log.WithError(err).Warn("the old log file stays open")
		return
	}
	k.conf.Log.Info("log file opened anew")
}

// passes reports whether workers get SIGUSR1: if that is for the log file, only if
// it was asked for.
func (c *Config) passes(sig syscall.Signal) bool {
	return c.Output.File == "" || slices.Contains(c.Forward, os.Signal(sig))
}

func (o *Output) fill() error {
	defaults(&o.Format, FormatText)
	switch {
	case o.Format != FormatText && o.Format != FormatJSON:
		return &Error{Err: fmt.Errorf("log format %q: text or json", o.Format)}
	case o.Prefix && o.Format == FormatJSON:
		return hinted(errors.New("a prefix is for text, not for JSON"), "JSON has service, generation and pid in each line anyway: leave out the prefix")
	}
	return nil
}

// shaped reports whether workers' output is to be more than passed on.
func (o *Output) shaped() bool { return o.Prefix || o.Format == FormatJSON || o.File != "" }
