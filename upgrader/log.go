package upgrader

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
)

// Discard is a logger that says nothing.
var Discard logrus.FieldLogger = quiet()

func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.ExitFunc = func(int) {} // Fatal of a logger that nobody hears ends nothing
	l.SetLevel(logrus.PanicLevel)
	return l
}

// Slog makes a logger for Options of l: entries keep their level and fields.
func Slog(l *slog.Logger) logrus.FieldLogger {
	r := quiet()
	r.SetLevel(logrus.TraceLevel) // l's handler decides
	r.AddHook(slogHook{l})
	return r
}

type slogHook struct{ l *slog.Logger }

func (slogHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h slogHook) Fire(e *logrus.Entry) error {
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	attrs := make([]slog.Attr, 0, len(e.Data))
	for k, v := range e.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	h.l.LogAttrs(ctx, slogLevel(e.Level), e.Message, attrs...)
	return nil
}

func slogLevel(l logrus.Level) slog.Level {
	switch {
	case l <= logrus.ErrorLevel:
		return slog.LevelError
	case l == logrus.WarnLevel:
		return slog.LevelWarn
	case l == logrus.InfoLevel:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}
