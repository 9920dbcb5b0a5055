package output

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
)

// author is one stream of one process.
type author struct {
	Source
	pid    int
	stream string // "stdout", "stderr"
}

// piece is a line, or a part of one.
type piece struct {
	text      []byte
	continues bool // a line whose beginning was a piece before this one
	more      bool // its end is yet to come
}

// form is what lines are made to look like. Both methods append to b.
type form interface {
	line(b []byte, s *author, p piece) []byte
	missing(b []byte, s *author, d dropped) []byte
}

// form for workers; nil: as it comes.
func (o *Options) form() form {
	switch {
	case o.Format == JSON:
		return objects{}
	case o.Prefix:
		return prefixed{}
	}
	return nil
}

func (d dropped) String() string {
	return fmt.Sprintf("%d lines (%d bytes) were dropped here: they were not read", d.lines, d.bytes)
}

type plain struct{}

func (plain) missing(b []byte, s *author, d dropped) []byte {
	return fmt.Appendf(b, "tablecloth: %s: %s\n", s.Service, d)
}

// prefixed lines begin with "[service generation pid] ", or with
// "[service generation pid+] " if they go on with the one before.
type prefixed struct{}

func (prefixed) head(b []byte, s *author, end string) []byte {
	b = append(append(append(b, '['), s.Service...), ' ')
	b = append(strconv.AppendInt(b, int64(s.Generation), 10), ' ')
	return append(strconv.AppendInt(b, int64(s.pid), 10), end...)
}

func (f prefixed) line(b []byte, s *author, p piece) []byte {
	end := "] "
	if p.continues {
		end = "+] "
	}
	return append(append(f.head(b, s, end), p.text...), '\n')
}

func (f prefixed) missing(b []byte, s *author, d dropped) []byte {
	return fmt.Appendf(f.head(b, s, "] "), "tablecloth: %s\n", d)
}

// objects are one JSON object per line.
type objects struct{}

// stamp is RFC 3339 with all digits, so that it sorts as text.
const stamp = "2006-01-02T15:04:05.000000Z07:00"

type record struct {
	Time       string `json:"time"`
	Level      string `json:"level,omitempty"`
	Service    string `json:"service"`
	Generation int    `json:"generation"`
	Worker     int    `json:"worker"`
	PID        int    `json:"pid"`
	Stream     string `json:"stream"`
	// One of these: the line is an object itself, or it isn't.
	Record json.RawMessage `json:"record,omitempty"`
	Text   *string         `json:"msg,omitempty"`
	// Data is the line where Text isn't, because it is not UTF-8.
	Data      string `json:"data,omitempty"`
	Continues bool   `json:"continues,omitempty"`
	More      bool   `json:"more,omitempty"`
	Dropped   int    `json:"dropped_lines,omitempty"`
}

func (s *author) record() record {
	return record{Time: time.Now().UTC().Format(stamp), Service: s.Service, Generation: s.Generation, Worker: s.Worker, PID: s.pid, Stream: s.stream}
}

func (objects) line(b []byte, s *author, p piece) []byte {
	r := s.record()
	r.Continues, r.More = p.continues, p.more
	if !p.continues && !p.more && isObject(p.text) {
		r.Record = p.text
		return r.append(b)
	}
	text := string(bytes.ToValidUTF8(p.text, []byte("\uFFFD")))
	if !utf8.Valid(p.text) {
		r.Data = base64.StdEncoding.EncodeToString(p.text)
	}
	r.Text = &text
	return r.append(b)
}

func isObject(text []byte) bool {
	text = bytes.TrimSpace(text)
	return len(text) > 1 && text[0] == '{' && text[len(text)-1] == '}' && utf8.Valid(text) && json.Valid(text)
}

func (objects) missing(b []byte, s *author, d dropped) []byte {
	r, text := s.record(), d.String()
	r.Level, r.Text, r.Dropped = "warning", &text, d.lines
	return r.append(b)
}

func (r record) append(b []byte) []byte {
	w := bytes.NewBuffer(b)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil { // of its fields only Record could be at fault, and it was looked at
		return b
	}
	return w.Bytes()
}

// ownObjects is the keeper's own log among the workers' objects.
type ownObjects struct{ logrus.JSONFormatter }

func (f *ownObjects) Format(e *logrus.Entry) ([]byte, error) {
	c := e.WithTime(e.Time.UTC())
	c.Level, c.Message = e.Level, e.Message
	c.Data = make(logrus.Fields, len(e.Data)+1)
	for k, v := range e.Data {
		c.Data[k] = v
	}
	c.Data["stream"] = "keeper"
	return f.JSONFormatter.Format(c)
}

// ownPrefixed is the keeper's own log among the workers' prefixed lines.
type ownPrefixed struct {
	logrus.Formatter
	head []byte
}

func (f *ownPrefixed) Format(e *logrus.Entry) ([]byte, error) {
	text, err := f.Formatter.Format(e)
	var b []byte
	for line := range bytes.Lines(text) {
		b = append(append(b, f.head...), line...)
	}
	return b, err
}
