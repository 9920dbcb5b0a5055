package systemd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// A kind of unit: what `tablecloth unit` prints, changed by a drop-in.
type kind struct {
	name    string
	flags   []string // of tablecloth unit; PORT is the service's
	service string   // lines of a drop-in's [Service]; NAME is the unit's
	oldest  int      // systemd that knows it
	reload  bool     // systemctl reload can fail
	follows bool     // the main PID is right as soon as the upgrade is over
	store   bool     // no connect is refused, whatever is killed
	kept    bool     // main is the keeper
}

const noStore = "FileDescriptorStoreMax=0\n"

var kinds = []kind{
	{name: "notify", flags: alone, service: noStore, reload: true, follows: true},
	{name: "notify-store", flags: alone, reload: true, follows: true, store: true},
	{name: "notify-main", flags: alone, service: "NotifyAccess=main\n" + noStore, reload: true, follows: true},
	{name: "notify-main-store", flags: alone, service: "NotifyAccess=main\n", reload: true, follows: true, store: true},
	{name: "notify-reload", flags: alone, service: "Type=notify-reload\nExecReload=\n", oldest: 253, follows: true, store: true},
	{name: "pidfile", flags: alone, service: pidFile + noStore, reload: true},
	{name: "socket-unit", flags: []string{"--mode=alone", "--socket-unit", "--listen=127.0.0.1:PORT"}, reload: true, follows: true, store: true},
	{name: "hardened", flags: []string{"--mode=alone", "--hardened"}, reload: true, follows: true, store: true},
	{name: "kept", flags: kept, reload: true, follows: true, store: true, kept: true},
	{name: "kept-no-store", flags: kept, service: noStore, reload: true, follows: true, kept: true},
	{name: "kept-socket-unit", flags: append(kept, "--socket-unit"), reload: true, follows: true, store: true, kept: true},
	{name: "kept-hardened", flags: append(kept, "--hardened"), reload: true, follows: true, store: true, kept: true},
	{name: "kept-forking", flags: kept, service: forking + noStore, reload: true, follows: true, kept: true},
}

var (
	alone = []string{"--mode=alone"}
	kept  = []string{"--mode=kept", "--listen=127.0.0.1:PORT", "--kill-timeout=" + killTimeout.String(), "--stop-timeout=" + stopTimeout.String()}
)

const pidFile = `Type=simple
NotifyAccess=none
WatchdogSec=0
PIDFile=%t/tablecloth/NAME/pid
Environment=SERVICE_PIDFILE=%t/tablecloth/NAME/pid
`

const forking = `Type=forking
NotifyAccess=none
WatchdogSec=0
PIDFile=%t/tablecloth/NAME/pid
ExecStart=
ExecStart=BIN/tablecloth run --detach --pidfile=%t/tablecloth/NAME/pid --name=NAME --control=%t/tablecloth/NAME/control --listen=127.0.0.1:PORT --kill-timeout=20s --stop-timeout=3s -- BIN/self
`

// patience bounds failures only.
const patience = 30 * time.Second

// unit is a service that is loaded.
type unit struct {
	kind
	t    *testing.T
	name string // without .service
	dir  string // see the files
	addr string
}

var lastPort atomic.Int32

// forKinds runs a test for each kind that suits, in parallel.
func forKinds(t *testing.T, suits func(kind) bool, test func(t *testing.T, u *unit)) {
	inTurn(t, suits, func(t *testing.T, u *unit) { t.Parallel(); test(t, u) })
}

// inTurn runs a test for each kind that suits, which has systemd for itself.
func inTurn(t *testing.T, suits func(kind) bool, test func(t *testing.T, u *unit)) {
	inBed(t)
	for _, k := range kinds {
		if suits != nil && !suits(k) {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			if k.oldest > systemdVersion() {
				t.Skipf("needs systemd %d, this is %d", k.oldest, systemdVersion())
			}
			test(t, k.load(t, ""))
		})
	}
}

// load writes the unit's files. lines are of a further drop-in's [Service].
func (k kind) load(t *testing.T, lines string) *unit {
	t.Helper()
	port := 10000 + lastPort.Add(1)
	name := fmt.Sprintf("%s-%d", k.name, port)
	u := &unit{kind: k, t: t, name: name, dir: filepath.Join("/run/bed", name), addr: fmt.Sprintf("127.0.0.1:%d", port)}
	fill := strings.NewReplacer("NAME", name, "PORT", strconv.Itoa(int(port)), "BIN", binDir).Replace
	if err := os.Mkdir(u.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"unit", "--name=" + name, "--output=" + unitsHere}
	for _, f := range k.flags {
		args = append(args, fill(f))
	}
	said(t, binDir+"/tablecloth", append(args, "--", binDir+"/self")...)
	u.dropIn("50-kind", fill(k.service))
	u.dropIn("60-test", fmt.Sprintf("Environment=%s=%s %s=%s %s=%s\n%s", envRole, roleService, envAddr, u.addr, envFiles, u.dir, fill(lines)))
	u.systemctl("daemon-reload")
	t.Cleanup(u.unload)
	return u
}

const unitsHere = "/run/systemd/system"

func (u *unit) dropIn(name, lines string) {
	u.t.Helper()
	dir := filepath.Join(unitsHere, u.name+".service.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".conf"), []byte("[Service]\n"+lines), 0o644); err != nil {
		u.t.Fatal(err)
	}
}

// unload ends the unit, and tells its journal if the test has failed.
func (u *unit) unload() {
	if u.t.Failed() {
		out, _ := exec.Command("journalctl", "-o", "short-precise", "--no-pager", "-n", "60", "-u", u.name).CombinedOutput()
		status, _ := exec.Command("systemctl", "status", "-n0", "--no-pager", u.name).CombinedOutput()
		u.t.Logf("%s\n%s", status, out)
	}
	exec.Command("systemctl", "kill", "-s", "KILL", u.name).Run()
	exec.Command("systemctl", "stop", u.name+".socket", u.name).Run()
	files, _ := filepath.Glob(filepath.Join(unitsHere, u.name+".*"))
	for _, f := range files {
		os.RemoveAll(f)
	}
}

// command returns what a command says, its errors included.
func command(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// said is what a command that must succeed says.
func said(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (u *unit) systemctl(verb string, args ...string) {
	u.t.Helper()
	said(u.t, "systemctl", append([]string{verb}, args...)...)
}

// show returns one property.
func (u *unit) show(property string) string {
	u.t.Helper()
	return said(u.t, "systemctl", "show", "-P", property, u.name)
}

// mainPID is never 0: kill(0) would be this test.
func (u *unit) mainPID() int {
	u.t.Helper()
	pid, err := strconv.Atoi(u.show("MainPID"))
	if err != nil || pid <= 1 {
		u.t.Fatalf("main PID %d, %v", pid, err)
	}
	return pid
}

func (u *unit) kill(pid int, sig syscall.Signal) {
	u.t.Helper()
	if pid <= 1 || pid == os.Getpid() {
		u.t.Fatalf("process %d is not the service's", pid)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		u.t.Fatalf("kill %d: %v", pid, err)
	}
}

// await a property's value.
func (u *unit) await(property string, is func(string) bool) string {
	u.t.Helper()
	v := ""
	proctest.Check(u.t, func() error {
		if v = u.show(property); !is(v) {
			return fmt.Errorf("%s is %q", property, v)
		}
		return nil
	})
	return v
}

func (u *unit) write(file, text string) {
	u.t.Helper()
	if err := os.WriteFile(filepath.Join(u.dir, file), []byte(text), 0o644); err != nil {
		u.t.Fatal(err)
	}
}

func (u *unit) remove(file string) { os.Remove(filepath.Join(u.dir, file)) }

// start returns when the service listens.
func (u *unit) start() {
	u.t.Helper()
	u.systemctl("start", u.name)
	proctest.Poll(u.t, "the service's socket", func() bool { return u.show("Type") != "simple" || !u.refused() })
}

// who serves, asked by a connection of its own.
func (u *unit) who() (pid, generation int) {
	u.t.Helper()
	a, err := ask(u.addr, "/pid")
	if err == nil {
		_, err = a.rest()
	}
	if err != nil {
		u.t.Fatal(err)
	}
	return a.pid, a.generation
}

// answer whose head has come.
type answer struct {
	pid, generation int
	body            io.ReadCloser
}

var fresh = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func ask(addr, path string) (answer, error) {
	r, err := fresh.Get("http://" + addr + path)
	if err != nil {
		return answer{}, err
	}
	a := answer{body: r.Body}
	a.pid, _ = strconv.Atoi(r.Header.Get(strict.HeaderPID))
	a.generation, _ = strconv.Atoi(r.Header.Get(strict.HeaderGeneration))
	if r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, r.Status)
	}
	return a, err
}

func (a answer) rest() (string, error) {
	defer a.body.Close()
	b, err := io.ReadAll(a.body)
	return string(b), err
}

// clients who never try again. Their report is made when the returned function is
// called.
func (u *unit) clients(groups ...strict.Group) (*strict.Running, func() *strict.Report) {
	u.t.Helper()
	if groups == nil {
		groups = []strict.Group{
			{Kind: strict.Post, N: 4}, {Kind: strict.Idle, N: 4}, {Kind: strict.Pipelined, N: 1},
			{Kind: strict.Slow, N: 2}, {Kind: strict.Split, N: 1}, {Kind: strict.Connect, Rate: 40},
		}
	}
	ctx, cancel := context.WithCancel(u.t.Context())
	r := strict.Load{Network: "tcp", Addr: u.addr, Groups: groups, Timeout: patience}.Start(ctx)
	proctest.Await(u.t, "the first answer", r.Answered(1))
	return r, func() *strict.Report { cancel(); return r.Wait() }
}

// systemdVersion of this bed.
func systemdVersion() int {
	out, _ := command("systemctl", "--version")
	v := 0
	fmt.Sscanf(out, "systemd %d", &v)
	return v
}

// entry of the journal.
type entry struct {
	Message  any    `json:"MESSAGE"`
	PID      string `json:"_PID"`
	Unit     string `json:"_SYSTEMD_UNIT"`
	Priority string `json:"PRIORITY"`
}

func (e entry) text() string { s, _ := e.Message.(string); return s }

// journal of the unit. What was written before is in it.
func (u *unit) journal() (entries []entry) {
	u.t.Helper()
	said(u.t, "journalctl", "--sync")
	out := said(u.t, "journalctl", "-o", "json", "--all", "--no-pager", "-u", u.name)
	s := bufio.NewScanner(bytes.NewBufferString(out))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var e entry
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			u.t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// refused reports whether nobody listens.
func (u *unit) refused() bool {
	c, err := net.Dial("tcp", u.addr)
	if err == nil {
		c.Close()
	}
	return err != nil
}

func count(few, full int) int { return testenv.Count(few, full) }
