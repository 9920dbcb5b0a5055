package demo

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/server"
)

// NewLog writes to stderr, one line per event, with the process it happened in.
func NewLog() *logrus.Logger {
	l := logrus.New()
	l.SetFormatter(formatter{})
	return l
}

type formatter struct{}

func (formatter) Format(e *logrus.Entry) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s demo[%d] %s", e.Time.Format("15:04:05.000"), os.Getpid(), e.Message)
	keys := make([]string, 0, len(e.Data))
	for k := range e.Data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, " %s=%v", k, e.Data[k])
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// Crashed is the hook for errors that nobody caught: the place to tell somebody.
func Crashed(log logrus.FieldLogger, c server.Crash) {
	log.Errorf("error %d of pid %d: %v", c.Count, os.Getpid(), c.Err)
}
