package show

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/server"
)

// The test binary is the service, a good one or one with a flaw.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[1] {
	default:
		os.Exit(m.Run())
	case "service":
		o := options()
		o.KillTimeout = time.Minute // what takes longer is no failure of a busy machine
		err = serve(os.Args[2:], "test", o)
	case "hasty": // cuts what is in flight
		err = serve(os.Args[2:], "test", server.Options{KillTimeout: time.Millisecond})
	case "dead":
		err = fmt.Errorf("no, not today")
	case "deaf": // outlives its standard input, and is never ready
		fmt.Fprintln(os.Stdout, "hm")
		select {}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// place gives shows a temporary directory, and fails the test if anything is left
// there or runs from there.
func place(t *testing.T) {
	dir, err := os.MkdirTemp("", "show") // short: unix sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		left, _ := filepath.Glob(filepath.Join(dir, "*"))
		exes, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, e := range exes {
			if exe, err := os.Readlink(e); err == nil && strings.HasPrefix(exe, dir) {
				left = append(left, e+" -> "+exe)
			}
		}
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		os.RemoveAll(dir)
	})
}

func config(w io.Writer, service string) Config {
	return Config{Args: []string{service}, Duration: 500 * time.Millisecond, Upgrades: 1, Out: w}
}

func TestNothingFalls(t *testing.T) {
	place(t)
	var out bytes.Buffer
	sc, err := Run(t.Context(), config(&out, "service"))
	if err != nil {
		t.Fatal(err)
	}
	if !sc.OK || sc.Interrupted || sc.Report.Total.Failed() > 0 || sc.Report.Total.OK < 100 {
		t.Errorf("score %+v of %+v", sc, sc.Report.Total)
	}
	want := []string{"serve", "broken binary refused: exec format error", "async panic: its request got a 500", "upgrade: generation 3 serves"}
	for i, w := range want {
		if i >= len(sc.Acts) || what(sc.Acts[i]) != w {
			t.Fatalf("act %d of %d is not %q:\n%s", i, len(sc.Acts), w, out.String())
		}
	}
	for _, text := range append(want, "NOTHING FELL: 0 of", "all  ", "connect  ") {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the score does not say %q", text)
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 || strings.ContainsAny(line, "\x1b\r") {
			t.Errorf("%d columns, or not plain: %q", n, line)
		}
	}
}

// A service that lets something fall doesn't get away with it.
func TestSomethingFalls(t *testing.T) {
	place(t)
	var out bytes.Buffer
	sc, err := Run(t.Context(), config(&out, "hasty"))
	if err != nil {
		t.Fatal(err)
	}
	if sc.OK || sc.Report.Total.Failed() == 0 || sc.Report.Total.Broken() == 0 || !strings.Contains(out.String(), "SOMETHING FELL: ") {
		t.Errorf("score of a service which cuts requests:\n%s", out.String())
	}
}

func TestJSON(t *testing.T) {
	place(t)
	var out bytes.Buffer
	c := config(&out, "service")
	c.JSON, c.Upgrades = true, 0
	if _, err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var sc Score
	if err := json.Unmarshal(out.Bytes(), &sc); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if !sc.OK || len(sc.Acts) != 3 || sc.Report.Total.OK == 0 || len(sc.Report.Timeline) == 0 {
		t.Errorf("score %+v", sc)
	}
}

// watcher calls seen when a text has been written.
type watcher struct {
	bytes.Buffer
	text string
	seen func()
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.seen()
	}
	return n, err
}

func TestInterruptedAtOnce(t *testing.T) {
	place(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{text: "Meanwhile", seen: cancel}
	c := config(w, "service")
	c.Duration = time.Hour
	sc, err := Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if sc.OK || !sc.Interrupted || !strings.Contains(w.String(), "INTERRUPTED") {
		t.Errorf("score %+v:\n%s", sc, w.String())
	}
}

func TestStays(t *testing.T) {
	place(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{text: "Ctrl-C", seen: cancel}
	c := config(w, "service")
	c.Stay = true
	sc, err := Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if !sc.OK || sc.Interrupted || !strings.Contains(w.String(), "curl http://127.0.0.1:") {
		t.Errorf("score %+v:\n%s", sc, w.String())
	}
}

func TestKept(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no keeper on " + runtime.GOOS)
	}
	place(t)
	var out bytes.Buffer
	c := config(&out, "service")
	c.Kept = true
	sc, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"serve", "broken binary refused", "async panic", "kill -9", "fatal error", "upgrade"} {
		if i >= len(sc.Acts) || sc.Acts[i].Act != name {
			t.Fatalf("act %d of %d is not %q:\n%s", i, len(sc.Acts), name, out.String())
		}
		if r := sc.Acts[i]; i > 1 && r.Took == 0 || r.Error != "" && name != "fatal error" {
			t.Errorf("%s: took %v, error %q", name, r.Took, r.Error)
		}
	}
	if !sc.OK {
		t.Errorf("something fell:\n%s", out.String())
	}
}

func TestServiceThatDoesNotStart(t *testing.T) {
	place(t)
	_, err := Run(t.Context(), config(io.Discard, "dead"))
	if err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("error %v doesn't have the service's last words", err)
	}
}

func TestInterruptedBeforeTheFirstGeneration(t *testing.T) {
	place(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := Run(ctx, config(io.Discard, "deaf")); err == nil {
		t.Error("a service that was never ready had a show")
	}
}

func TestProgram(t *testing.T) {
	for n, want := range []string{"bc", "bcu", "ubcu", "ubucu", "uubucu", "uubuucu"} {
		for kept, deaths := range map[bool]string{false: "a", true: "akf"} {
			got := ""
			for _, a := range program(n, kept) {
				got += a.name[:1]
			}
			if want := strings.ReplaceAll(want, "c", deaths); got != want {
				t.Errorf("%d upgrades, kept %v: %s, want %s", n, kept, got, want)
			}
		}
	}
}

func TestLiveScreen(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(Config{Out: &out, Live: true, Colour: true})
	s.status(&strict.Report{})
	s.line("an act")
	if got := out.String(); !strings.HasPrefix(got, eraseLine) || !strings.HasSuffix(got, eraseLine+"an act\n") {
		t.Errorf("%q", got)
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("number(%d) = %q", n, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0 µs", 640 * time.Microsecond: "640 µs", 1234 * time.Microsecond: "1.2 ms", 18 * time.Millisecond: "18 ms", 1230 * time.Millisecond: "1.2 s",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%v) = %q, want %q", d, got, want)
		}
	}
}
