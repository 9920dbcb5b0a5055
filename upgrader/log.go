package upgrader

import (
	"io"

	"github.com/sirupsen/logrus"
)

// Discard is a logger that says nothing.
var Discard logrus.FieldLogger = func() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.PanicLevel)
	return l
}()
