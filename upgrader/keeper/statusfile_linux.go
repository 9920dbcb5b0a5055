package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const (
	statusGap  = 100 * time.Millisecond // between two writes, at least
	statusBeat = 5 * time.Second        // without an event
)

// statusFile is where the status is written to for those who would rather read a
// file than ask.
type statusFile struct {
	path   string
	status func() control.Status
	news   *control.Reader
	log    logrus.FieldLogger
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

// openStatusFile writes the first status, and fails if it can't.
func openStatusFile(path string, b backend, log logrus.FieldLogger) (*statusFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{Err: err}
	}
	f := &statusFile{path: path, status: b.Status, log: log, done: make(chan struct{}), news: b.a.events.Follow(b.a.events.Last())}
	if err := f.write(control.Status{Version: control.Version, Mode: "kept", Keeper: &control.Process{PID: os.Getpid(), Started: b.a.started}}); err != nil {
		return nil, &Error{Err: fmt.Errorf("status file %s: %w", path, err)}
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f, nil
}

func (f *statusFile) write(s control.Status) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(f.path, append(text, '\n'), 0o644, renameio.WithTempDir(filepath.Dir(f.path)), renameio.IgnoreUmask())
}

func (f *statusFile) run() {
	defer close(f.done)
	failed := false
	for f.ctx.Err() == nil {
		if err := f.write(f.status()); err != nil && !failed {
			failed = true
			f.log.WithError(err).Error("write the status file")
		} else if err == nil {
			failed = false
		}
		beat, cancel := context.WithTimeout(f.ctx, statusBeat)
		f.news.Next(beat)
		cancel()
		pause(statusGap, f.ctx.Done())
	}
}

// end removes the file: what it says is no longer so.
func (f *statusFile) end() {
	f.cancel()
	<-f.done
	os.Remove(f.path)
}
