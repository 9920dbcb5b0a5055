//go:build linux

package output

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

const floodLine = 1 << 10

// piped is a flow whose output the test reads: from when it calls read, and to the
// end after it has called the function that that returns.
func piped(t *testing.T, f form) (fl *flow, read func() (rest func() string)) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	o := newOutlet(w)
	fl = &flow{author: author{Source{"web", 3, 1}, 4711, "stderr"}, form: f, to: o, meter: &meter{}}
	return fl, func() func() string {
		text := make(chan string)
		go func() {
			b, err := io.ReadAll(r)
			text <- fmt.Sprint(string(b), errText(err))
		}()
		return func() string {
			o.close()
			w.Close()
			return <-text
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAsItComes(t *testing.T) {
	f, read := piped(t, nil)
	for _, s := range []string{"a", "b\nc", "\xff\x00\n", "", "d"} {
		f.write([]byte(s))
	}
	f.end()
	if got := read()(); got != "ab\nc\xff\x00\nd" {
		t.Errorf("%q", got)
	}
}

func TestPrefixed(t *testing.T) {
	f, read := piped(t, prefixed{})
	f.write([]byte("one\ntw"))
	f.write([]byte("o\n\nquiet"))
	f.hush()
	f.write([]byte(" no more\nlast"))
	f.end()
	want := "[web 3 4711] one\n[web 3 4711] two\n[web 3 4711] \n[web 3 4711] quiet\n[web 3 4711+]  no more\n[web 3 4711] last\n"
	if got := read()(); got != want {
		t.Errorf("%q", got)
	}
}

func TestLongLine(t *testing.T) {
	f, read := piped(t, prefixed{})
	long := strings.Repeat("é", longestLine) // 2 bytes each: a cut could fall into one
	f.write([]byte("x" + long + "\nnext\n"))
	var got strings.Builder
	pieces := 0
	for line := range strings.Lines(read()()) {
		_, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "] ")
		if !ok || strings.Contains(text, "\uFFFD") || len(text) > longestLine {
			t.Errorf("%.40q…", line)
		}
		if strings.HasPrefix(line, "[web 3 4711+] ") != (pieces > 0 && text != "next") {
			t.Errorf("piece %d: %.40q", pieces, line)
		}
		got.WriteString(text)
		pieces++
	}
	if got.String() != "x"+long+"next" || pieces != 4 {
		t.Errorf("%d bytes in %d pieces", got.Len(), pieces)
	}
}

func TestObjects(t *testing.T) {
	f, read := piped(t, objects{})
	binary := "\xff\xfe<&>\x00\x1b[1m\t\"\\"
	f.write([]byte("plain \"quoted\" <b> & é\n" + binary + "\n" + `  {"level":"info","n":1.50,"deep":{"a":[1,2]}}` + "\n[1,2]\n{no object}\nhalf"))
	f.hush()
	f.write([]byte(" whole\n\nlast"))
	f.end()
	text := read()()
	var got []record
	for line := range strings.Lines(text) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if at, err := time.Parse(time.RFC3339Nano, r.Time); err != nil || time.Since(at) > time.Hour || !strings.HasSuffix(r.Time, "Z") {
			t.Errorf("time %q: %v", r.Time, err)
		}
		if r.Service != "web" || r.Generation != 3 || r.Worker != 1 || r.PID != 4711 || r.Stream != "stderr" {
			t.Errorf("%+v", r)
		}
		got = append(got, r)
	}
	said := func(r record) string {
		switch {
		case r.Record != nil:
			return string(r.Record)
		case r.Text == nil:
			return "nothing"
		case r.Data != "":
			b, err := base64.StdEncoding.DecodeString(r.Data)
			return fmt.Sprint(string(b), err)
		}
		return *r.Text
	}
	want := []string{`plain "quoted" <b> & é`, binary + "<nil>", `{"level":"info","n":1.50,"deep":{"a":[1,2]}}`, "[1,2]", "{no object}", "half", " whole", "", "last"}
	if len(got) != len(want) {
		t.Fatalf("%d lines: %s", len(got), text)
	}
	for i, w := range want {
		if said(got[i]) != w {
			t.Errorf("line %d: %q, want %q", i, said(got[i]), w)
		}
		if got[i].More != (w == "half") || got[i].Continues != (w == " whole") {
			t.Errorf("line %d: more %v, continues %v", i, got[i].More, got[i].Continues)
		}
	}
	if !strings.Contains(text, `<b> & é`) {
		t.Error("escaped for HTML")
	}
}

// A reader who is slow, but reads, gets everything.
func TestSlowReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o := newOutlet(w)
	o.wait = time.Minute // the machine may be slower than the reader
	f := &flow{author: author{Source: Source{Service: "web"}}, to: o, meter: &meter{}}
	const lines = 4 << 10
	go func() {
		for range lines {
			f.write([]byte(strings.Repeat("x", floodLine-1) + "\n"))
		}
		o.close()
		w.Close()
	}()
	n := 0
	for buf := make([]byte, 64<<10); ; proctest.Pace(time.Millisecond) {
		k, err := r.Read(buf)
		n += k
		if err != nil {
			break
		}
	}
	if n != lines*floodLine || f.meter.droppedLines.Load() != 0 {
		t.Errorf("%d of %d bytes, %d lines dropped", n, lines*floodLine, f.meter.droppedLines.Load())
	}
}

// Where something is missing, the output says so, and goes on with whole lines.
func TestLossIsTold(t *testing.T) {
	for _, form := range []form{nil, prefixed{}, objects{}} {
		f, read := piped(t, form)
		f.write([]byte("first\nbegun "))
		for range 3 * outletBytes / floodLine {
			f.write([]byte(strings.Repeat("x", floodLine-1) + "\n"))
		}
		f.write([]byte("this line is lost with its"))
		f.write([]byte(" end\n"))
		dropped := f.meter.droppedLines.Load()
		if dropped == 0 {
			t.Fatal("nothing was dropped")
		}
		rest := read()
		proctest.Poll(t, "room", func() bool { return !f.to.stalls() })
		f.write([]byte("last\n"))
		text := rest()
		if strings.Contains(text, "is lost") || strings.Contains(text, " end") {
			t.Errorf("%T: a piece of a lost line: %.200q", form, strings.ReplaceAll(text, "x", ""))
		}
		told := strings.Index(text, fmt.Sprintf("%d lines (", dropped))
		if told < 0 || strings.Index(text, "last") < told {
			t.Errorf("%T: not told of %d lines: %q", form, dropped, text[max(0, len(text)-300):])
		}
	}
}

// Lines that are dropped when they can't be written are their writer's.
func TestFailedWritesAreShared(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	o := newOutlet(w)
	var a, b meter
	o.put(&a, []byte("1\n2\n"))
	o.put(&b, []byte("3\n"))
	o.close()
	if a.droppedLines.Load() != 2 || b.droppedLines.Load() != 1 || b.droppedBytes.Load() != 2 {
		t.Errorf("%d, %d", a.droppedLines.Load(), b.droppedLines.Load())
	}
}
