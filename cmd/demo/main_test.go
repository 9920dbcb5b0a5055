package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// The test binary is the service, if told so.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_DEMO") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// running is the service, all its generations.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	dir   string
	lines chan string
	seen  []string
	url   string
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	d := &running{t: t, dir: t.TempDir(), lines: make(chan string, 1000)}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	args = append([]string{"--web", "127.0.0.1:0", "--api", "127.0.0.1:0", "--pidfile", d.pidFile(), "--control", filepath.Join(d.dir, "control")}, args...)
	d.cmd = exec.Command(os.Args[0], args...)
	d.cmd.Env = append(os.Environ(), "TEST_DEMO=1", "GORACE=atexit_sleep_ms=0")
	d.cmd.Stderr = w
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(d.lines)
		defer close(gone)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			d.lines <- sc.Text()
		}
	}()
	t.Cleanup(func() {
		select {
		case <-gone: // and the group's number may be another's by now
		default:
			syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		}
		d.cmd.Wait()
		d.log("") // until the last process is gone
		if t.Failed() {
			t.Logf("log:\n%s", strings.Join(d.seen, "\n"))
		}
	})
	d.url = "http://" + d.expect(`generation 1 serves on (\S+)`)
	return d
}

func (d *running) pidFile() string { return filepath.Join(d.dir, "pid") }

// expect waits for a line of the log, and returns its first group.
func (d *running) expect(pattern string) string {
	d.t.Helper()
	m := d.log(pattern)
	if m == nil {
		d.t.Fatalf("the log has no line %q", pattern)
	}
	return m[len(m)-1]
}

func (d *running) log(pattern string) []string {
	re := regexp.MustCompile(pattern)
	timeout := time.After(proctest.Patience(d.t))
	for {
		select {
		case l, ok := <-d.lines:
			if !ok {
				return nil
			}
			d.seen = append(d.seen, l)
			if m := re.FindStringSubmatch(l); m != nil && pattern != "" {
				return m
			}
		case <-timeout:
			return nil
		}
	}
}

// ask makes one request on a connection of its own.
func (d *running) ask(method, path, body string) (int, string) {
	d.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: proctest.Patience(d.t)}
	req, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (d *running) pid() int {
	d.t.Helper()
	_, s := d.ask("GET", "/pid", "")
	pid, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		d.t.Fatalf("/pid says %q", s)
	}
	return pid
}

func TestAnswers(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	d := start(t, "--version-string", "1.2.3", "--unix", sock)
	var index struct {
		Method, URL, Version string
		PID, Generation      int
		Headers              http.Header
	}
	_, body := d.ask("GET", "/?a=b", "")
	if err := json.Unmarshal([]byte(body), &index); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if index.Method != "GET" || index.URL != "/?a=b" || index.PID != d.cmd.Process.Pid || index.Generation != 1 || index.Version != "1.2.3" || index.Headers.Get("User-Agent") == "" || !strings.Contains(body, `"Connection"`) {
		t.Errorf("GET / says %s", body)
	}
	if status, body := d.ask("POST", "/echo", "hello"); status != 200 || body != "hello" {
		t.Errorf("/echo: %d %q", status, body)
	}
	if status, _ := d.ask("GET", "/slow?ms=10", ""); status != 200 {
		t.Errorf("/slow: %d", status)
	}
	if status, _ := d.ask("GET", "/slow?ms=x", ""); status != 400 {
		t.Errorf("/slow without a number: %d", status)
	}
	if status, _ := d.ask("GET", "/panic", ""); status != 500 || d.pid() != d.cmd.Process.Pid {
		t.Errorf("/panic: %d, and pid %d serves", status, d.pid())
	}
	c, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /pid HTTP/1.0\r\n\r\n")
	if b, _ := io.ReadAll(c); !strings.HasSuffix(string(b), fmt.Sprintf("\r\n\r\n%d\n", d.cmd.Process.Pid)) {
		t.Errorf("on the unix socket: %q", b)
	}
}

func TestUpgradeTellsItsStory(t *testing.T) {
	d := start(t)
	c, br := d.long()
	old := d.pid()
	if err := proctest.Kill(old, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	successor := d.expect(`successor (\d+) is ready`)
	d.expect(`close 2 servers`)
	if got := strconv.Itoa(d.pid()); got != successor {
		t.Errorf("pid %s serves, the log says %s", got, successor)
	}
	if b, _ := os.ReadFile(d.pidFile()); strings.TrimSpace(string(b)) != successor {
		t.Errorf("PID file has %q, want %s", b, successor)
	}
	fmt.Fprint(c, "still there?\n")
	if s, err := br.ReadString('\n'); err != nil || s != "still there?\n" {
		t.Errorf("the old connection says %q, %v", s, err)
	}
}

// Who names another service, and asks this one, is told so.
func TestAnothersName(t *testing.T) {
	d := start(t)
	c := proctest.Dial(t, filepath.Join(d.dir, "control"))
	out := proctest.Upgrade(t, c, control.UpgradeRequest{Service: "another"})
	if out.Result != control.Refused || !strings.Contains(out.Reason, `no service is called "another"`) {
		t.Errorf("%+v", out)
	}
	if err := c.Stop(t.Context(), control.StopRequest{Services: []string{"another"}}); err == nil {
		t.Error("it stops")
	}
	if _, err := c.Scale(t.Context(), control.ScaleRequest{Workers: 2}); err == nil {
		t.Error("it scales")
	}
	if pid := d.pid(); pid != d.cmd.Process.Pid {
		t.Errorf("pid %d serves", pid)
	}
	if out := proctest.Upgrade(t, c, control.UpgradeRequest{Service: proctest.Status(t, c).Name}); out.Result != control.Ready {
		t.Errorf("%+v", out)
	}
}

func TestKillTimeout(t *testing.T) {
	d := start(t, "--kill-timeout", "100ms")
	_, br := d.long()
	if err := proctest.Kill(d.pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.expect(`kill timeout, exit now`)
	if _, err := br.ReadByte(); err == nil {
		t.Error("the old connection outlives its process")
	}
}

// long upgrades a connection to an echo.
func (d *running) long() (net.Conn, *bufio.Reader) {
	d.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(proctest.Patience(d.t)))
	fmt.Fprint(c, "GET /long HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("X-Generation") != "1" {
		d.t.Fatalf("/long: %v, %v", resp, err)
	}
	return c, br
}

func TestAsyncErrorIsAnsweredAndReplaced(t *testing.T) {
	d := start(t)
	old := d.pid()
	if status, body := d.ask("GET", "/asyncerror", ""); status != 500 {
		t.Errorf("/asyncerror: %d %q", status, body)
	}
	d.expect(fmt.Sprintf(`error 1 of pid %d: .*async error`, old))
	successor := d.expect(`generation 2 serves on (\S+)`)
	if d.url != "http://"+successor || d.pid() == old {
		t.Errorf("%s serves, it was %s; pid %d, it was %d", successor, d.url, d.pid(), old)
	}
	err := d.cmd.Wait()
	if d.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("the crashed process ended with %v, want exit status 1", err)
	}
}

func TestFatalEndsTheProcess(t *testing.T) {
	d := start(t)
	if resp, err := http.Get(d.url + "/fatal"); err == nil {
		resp.Body.Close()
		t.Errorf("/fatal: %s", resp.Status)
	}
	d.cmd.Wait()
	if d.cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("exit status %d, want that of a fatal error, 2", d.cmd.ProcessState.ExitCode())
	}
	d.expect(`^fatal error: `)
}

func TestKept(t *testing.T) {
	d := start(t, "--keep")
	keeper := d.cmd.Process.Pid
	seen := map[int]bool{keeper: true, d.pid(): true}
	serving := func(generation int) int {
		pid, _ := strconv.Atoi(d.expect(fmt.Sprintf(`demo\[(\d+)\] generation %d serves on`, generation)))
		if seen[pid] {
			t.Errorf("generation %d has pid %d, which is not new", generation, pid)
		}
		seen[pid] = true
		return pid
	}
	proctest.Kill(keeper, syscall.SIGHUP)
	proctest.Kill(serving(2), syscall.SIGKILL)
	serving(3)
	if status, _ := d.ask("GET", "/asyncerror", ""); status != 500 {
		t.Errorf("/asyncerror: %d", status)
	}
	serving(4)
	if b, _ := os.ReadFile(d.pidFile()); strings.TrimSpace(string(b)) != strconv.Itoa(keeper) {
		t.Errorf("PID file has %q, want the keeper's %d", b, keeper)
	}
	proctest.Kill(keeper, syscall.SIGTERM)
	for l := range d.lines { // until the last process is gone
		d.seen = append(d.seen, l)
	}
	d.cmd.Wait()
	if strings.Contains(strings.Join(d.seen, "\n"), "DATA RACE") {
		t.Error("a data race")
	}
}

// A socket file belongs to the service, not to a generation of it.
func TestUnixSocketIsThereUntilTheServiceEnds(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	d := start(t, "--unix", sock)
	proctest.Kill(d.pid(), syscall.SIGHUP)
	d.expect(`close 2 servers`)
	d.cmd.Wait()
	c, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	proctest.Kill(d.pid(), syscall.SIGTERM)
	for range d.lines { // until the last process is gone
	}
	for _, path := range []string{sock, d.pidFile()} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left behind", path)
		}
	}
}

func TestPort(t *testing.T) {
	t.Setenv("PORT", "4711")
	if got := defaultWeb(); got != "127.0.0.1:4711" {
		t.Errorf("with $PORT: %s", got)
	}
	t.Setenv("PORT", "")
	if got := defaultWeb(); got != "127.0.0.1:1337" {
		t.Errorf("without: %s", got)
	}
}
