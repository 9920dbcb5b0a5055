//go:build linux

package keeper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func init() {
	roles["as-speaking-keeper"] = asSpeakingKeeper
	roles["flood"] = flood
	roles["count"] = count
}

// asSpeakingKeeper has the log that it makes itself.
func asSpeakingKeeper(args []string) {
	var c Config
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		panic(err)
	}
	if os.Getenv("TEST_FORWARD") != "" {
		c.Forward = []os.Signal{syscall.SIGUSR1}
	}
	Exit(Run(context.Background(), c))
}

const floodLine = 1 << 10

// flood writes so many lines to stderr, and says in files when half of them and
// all are written.
func flood(args []string) {
	n, _ := strconv.Atoi(args[0])
	notifyReady()
	line := []byte(strings.Repeat("x", floodLine-1) + "\n")
	for i := range n {
		copy(line, fmt.Sprintf("line %d ", i))
		os.Stderr.Write(line)
		if i == n/2 {
			os.WriteFile(args[1]+".half", nil, 0o644)
		}
	}
	os.WriteFile(args[1]+".all", nil, 0o644)
	select {}
}

// count writes numbered lines to both outputs, until it is told to end; it says in
// a file that it was given SIGUSR1.
func count(args []string) {
	sig := make(chan os.Signal, 8)
	signal.Notify(sig, syscall.SIGUSR1, syscall.SIGTERM)
	notifyReady()
	for i := 0; ; i++ {
		fmt.Fprintf(os.Stdout, "out %d\n", i)
		fmt.Fprintf(os.Stderr, "err %d\n", i)
		if i%500 != 0 { // in bursts: lines straddle the writes of the keeper
			continue
		}
		select {
		case s := <-sig:
			if s == syscall.SIGTERM {
				return
			}
			os.WriteFile(args[0], nil, 0o644)
		case <-time.After(time.Millisecond):
		}
	}
}

// speaker is a keeper whose output is the test's.
type speaker struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *os.File // its stdout and stderr come out here
	client *control.Client
	waited chan struct{}
}

func speak(t *testing.T, c Config) *speaker {
	t.Helper()
	c.Control = filepath.Join(t.TempDir(), "control")
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := &speaker{t: t, cmd: exec.Command(self(t), "as-speaking-keeper", string(text)), out: r, waited: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = w, w
	s.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.cmd.Wait()
		close(s.waited)
	}()
	t.Cleanup(s.end)
	for s.client == nil {
		if s.client, err = control.Dial(c.Control); err == nil {
			break
		}
		s.client = nil
		select {
		case <-s.waited:
			b, _ := io.ReadAll(r)
			t.Fatalf("the keeper has ended: %s", b)
		case <-time.After(time.Millisecond):
		}
	}
	s.await(control.EventReady, 0)
	return s
}

func (s *speaker) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *speaker) await(kind string, seq uint64) {
	s.t.Helper()
	for e, err := range s.client.Follow(s.ctx(), seq) {
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Kind == kind {
			return
		}
	}
}

func (s *speaker) status() control.Service {
	s.t.Helper()
	st, err := s.client.Status(s.ctx())
	if err != nil {
		s.t.Fatal(err)
	}
	return st.Services[0]
}

func (s *speaker) end() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.waited:
	case <-time.After(time.Minute):
		s.t.Error("the keeper doesn't end")
		s.cmd.Process.Kill()
		<-s.waited
	}
	s.out.Close()
}

// rest ends the keeper, and returns what comes out until then.
func (s *speaker) rest() string {
	go s.cmd.Process.Signal(syscall.SIGTERM)
	b, err := io.ReadAll(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	<-s.waited
	return string(b)
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return atoi(t, strings.Fields(rest)[0]) << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// A reader who stops reading blocks neither the worker nor the keeper, costs no
// memory, and what he misses is counted to the line.
func TestFlood(t *testing.T) {
	for _, o := range []Output{{}, {Prefix: true}, {Format: FormatJSON}} {
		t.Run(fmt.Sprintf("%s prefix=%v", o.Format, o.Prefix), func(t *testing.T) { testFlood(t, o) })
	}
}

func testFlood(t *testing.T, o Output) {
	lines := testenv.Count(64<<20, 1<<30) / floodLine
	said := filepath.Join(t.TempDir(), "said")
	s := speak(t, Config{Output: o, Services: []Service{{Name: "flood", Command: role(t, "flood", strconv.Itoa(lines), said)}}})
	began := time.Now()
	until(t, "half of it is written", func() bool { return exists(said + ".half") })
	half := peakMemory(t, s.cmd.Process.Pid)
	until(t, "all of it is written", func() bool { return exists(said + ".all") })
	took := time.Since(began)
	grown := peakMemory(t, s.cmd.Process.Pid) - half
	if grown > 16<<20 { // at least twice that has passed
		t.Errorf("the keeper's memory has grown by %d KiB", grown>>10)
	}
	until(t, "all of it was seen", func() bool { return s.status().Output.Lines >= int64(lines) })
	seen := s.status().Output
	if seen.Lines != int64(lines) || seen.Bytes != int64(lines)*floodLine || seen.DroppedLines == 0 {
		t.Errorf("%+v of %d lines", seen, lines)
	}
	// The keeper itself doesn't hang, though its log has no reader either.
	if o, err := s.client.Upgrade(s.ctx(), control.UpgradeRequest{Args: []string{"exit", "7"}}); err != nil || o.Exit != "exit status 7" {
		t.Errorf("an upgrade: %+v, %v", o, err)
	}
	text := s.rest()
	whole := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, "line ") && strings.Count(line, "x") >= floodLine-20 && strings.HasSuffix(line, "\n") {
			whole++
		}
	}
	if got := int64(whole) + seen.DroppedLines; got != int64(lines) {
		t.Errorf("%d lines came out whole and %d were dropped: %d of %d", whole, seen.DroppedLines, got, lines)
	}
	testenv.Result(t, "%d MiB in %v with nobody reading: %d lines passed, %d dropped and counted, memory grew by %d KiB",
		lines*floodLine>>20, took.Round(time.Millisecond), whole, seen.DroppedLines, grown>>10)
}

// Without the keeper in between, the worker does block.
func TestFloodBlocks(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	s := speak(t, Config{Services: []Service{{Name: "flood", Capture: "none", Command: role(t, "flood", "10000", said)}}})
	pid := s.status().Generations[0].Workers[0].PID
	until(t, "it hangs in a write", func() bool { return writes(pid) })
	if exists(said + ".all") {
		t.Error("all was written, and nobody has read it")
	}
	if s.status().Output != nil {
		t.Errorf("counted: %+v", s.status().Output)
	}
	s.rest()
}

// writes reports whether a thread of a process is in a write(2) to its stderr.
func writes(pid int) bool {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, path := range all {
		b, _ := os.ReadFile(path)
		if f := strings.Fields(string(b)); len(f) > 1 && f[0] == strconv.Itoa(unix.SYS_WRITE) && f[1] == "0x2" {
			return true
		}
	}
	return false
}

// What is told to stdout and stderr is in the file, in order, and in one of two
// files at a rotation.
func TestLogFile(t *testing.T) {
	for _, forward := range []bool{false, true} {
		t.Run(fmt.Sprintf("forward=%v", forward), func(t *testing.T) { testLogFile(t, forward) })
	}
}

func testLogFile(t *testing.T, forward bool) {
	dir := t.TempDir()
	path, told := filepath.Join(dir, "log"), filepath.Join(dir, "told")
	c := Config{Output: Output{File: path}, Services: []Service{{Name: "count", Command: role(t, "count", told)}}}
	if forward {
		t.Setenv("TEST_FORWARD", "USR1")
	}
	s := speak(t, c)
	rotations := testenv.Count(3, 50)
	for i := range rotations {
		until(t, "something was logged", func() bool { fi, err := os.Stat(path); return err == nil && fi.Size() > 0 })
		if err := os.Rename(path, fmt.Sprintf("%s.%03d", path, i)); err != nil {
			t.Fatal(err)
		}
		s.cmd.Process.Signal(syscall.SIGUSR1)
	}
	until(t, "the last one is there", func() bool { return exists(path) })
	if forward {
		until(t, "the worker was told too", func() bool { return exists(told) })
	}
	if text := s.rest(); text != "" {
		t.Errorf("beside the file: %s", text)
	}
	if !forward && exists(told) {
		t.Error("the worker was given the signal that is for the log file")
	}
	files, _ := filepath.Glob(path + ".*")
	var all []byte
	for _, f := range append(files, path) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	if torn := bytes.Count(all, []byte("\n")); torn != whole(all) {
		t.Errorf("%d lines, %d of them whole", torn, whole(all))
	}
	requireCount(t, all, "out")
	requireCount(t, all, "err")
	if !bytes.Contains(all, []byte("log file opened anew")) {
		t.Error("the keeper's own log isn't there")
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm()&^0o640 != 0 {
		t.Error(fi.Mode())
	}
}

var written = regexp.MustCompile(`^(out \d+|err \d+|time=.*)\n$`)

// whole counts lines that are what somebody wrote.
func whole(text []byte) (n int) {
	for line := range bytes.Lines(text) {
		if written.Match(line) {
			n++
		}
	}
	return n
}

func requireCount(t *testing.T, text []byte, name string) {
	t.Helper()
	next := 0
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		if n, ok := strings.CutPrefix(sc.Text(), name+" "); ok {
			if n != strconv.Itoa(next) {
				t.Fatalf("%s %s where %d was to come", name, n, next)
			}
			next++
		}
	}
	if next == 0 {
		t.Errorf("no line of %s", name)
	}
}

// What can't be written is counted too, and nobody hangs.
func TestLogFileFull(t *testing.T) {
	s := speak(t, Config{Output: Output{File: "/dev/full"}, Services: []Service{{Name: "count", Command: role(t, "count", "")}}})
	until(t, "lines are missing", func() bool { o := s.status().Output; return o != nil && o.DroppedLines > 100 })
	notes := strings.Join(s.status().Notes, "\n")
	if !strings.Contains(notes, "were dropped") {
		t.Errorf("notes: %s", notes)
	}
	s.rest()
}

func TestLogFileRefused(t *testing.T) {
	c := Config{Output: Output{File: "/nowhere/log"}, Services: []Service{{Command: []string{"true"}}}}
	if _, err := openLogs(&c.Output); err == nil || !strings.Contains(err.Error(), "/nowhere/log") {
		t.Error(err)
	}
}

func TestOutputChecked(t *testing.T) {
	for _, c := range []struct {
		o    Output
		want string
	}{
		{Output{}, ""},
		{Output{Format: FormatText, Prefix: true}, ""},
		{Output{Format: "xml"}, `log format "xml"`},
		{Output{Format: FormatJSON, Prefix: true}, "prefix"},
	} {
		err := c.o.fill()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}

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
	fl = &flow{source: source{"web", 3, 1, 4711, "stderr"}, form: f, to: o, meter: &meter{}}
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
	f := &flow{source: source{service: "web"}, to: o, meter: &meter{}}
	const lines = 4 << 10
	go func() {
		for range lines {
			f.write([]byte(strings.Repeat("x", floodLine-1) + "\n"))
		}
		o.close()
		w.Close()
	}()
	n := 0
	for buf := make([]byte, 64<<10); ; time.Sleep(time.Millisecond) {
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
		until(t, "there is room again", func() bool { return !f.to.stalls() })
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
