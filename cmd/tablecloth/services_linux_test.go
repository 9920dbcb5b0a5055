package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const gunicornApp = `
import os
def app(environ, start_response):
    body = b'%d' % os.getpid()
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
`

const nodeServer = `
const http = require('http')
const s = http.createServer((q, r) => { r.setHeader('Connection', 'close'); r.end(String(process.pid)) })
s.listen({fd: 3})
process.on('SIGTERM', () => s.close())
`

// fleetOf is a keeper of a file, in a process of its own.
type fleetOf struct {
	t      *testing.T
	file   string
	client *control.Client
	keeper *running
	log    *os.File
}

// keepFile starts one, and waits until everything in the file serves.
func keepFile(t *testing.T, text string, more map[string]string) *fleetOf {
	t.Helper()
	dir := t.TempDir()
	for name, content := range more {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := &fleetOf{t: t, file: filepath.Join(dir, "tablecloth.yaml")}
	f.write(text)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "control")
	f.log = log
	f.keeper = &running{cmd: as(t, "tablecloth", "run", "--file", f.file, "--control", path), ended: make(chan error, 1)}
	f.keeper.cmd.Stdout, f.keeper.cmd.Stderr = log, log
	if err := f.keeper.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { f.keeper.ended <- f.keeper.cmd.Wait() }()
	t.Cleanup(f.end)
	proctest.Poll(t, "the control socket", func() bool {
		f.client, err = control.Dial(path)
		return err == nil
	})
	proctest.Poll(t, "services that serve", func() bool {
		st, err := f.client.Status(context.Background())
		if err != nil {
			return false
		}
		for _, s := range st.Services {
			if s.State != control.Serving {
				return false
			}
		}
		return true
	})
	return f
}

func (f *fleetOf) end() {
	f.keeper.cmd.Process.Signal(syscall.SIGTERM)
	f.keeper.wait(f.t)
	f.log.Close()
	if f.t.Failed() {
		text, _ := os.ReadFile(f.log.Name())
		f.t.Logf("the keeper's log:\n%s", text)
	}
}

func (f *fleetOf) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.file, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// services are those that there are, by name.
func (f *fleetOf) services() map[string]control.Service {
	f.t.Helper()
	st, err := f.client.Status(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	all := map[string]control.Service{}
	for _, s := range st.Services {
		all[s.Name] = s
	}
	return all
}

func (f *fleetOf) command(args ...string) result {
	f.t.Helper()
	return tablecloth(f.t, append([]string{"--control", f.client.Path()}, args...)...)
}

func addressOf(s control.Service) string {
	_, addr, _ := strings.Cut(s.Listen[0], "tcp:")
	return addr
}

// fetch asks on a connection of its own, for the answer's body.
func fetch(t *testing.T, addr string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: proctest.Patience(t)}
	r, err := client.Get("http://" + addr)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

// load asks again and again, until end is called, which says how often it was
// answered, and the first failure.
func load(t *testing.T, addr string) (end func() (int64, error)) {
	var answers atomic.Int64
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			if _, err := fetch(t, addr); err != nil {
				failed <- err
				return
			}
			answers.Add(1)
		}
	}()
	return func() (int64, error) {
		close(stop)
		err := <-failed
		return answers.Load(), err
	}
}

// TestAChangedFileTouchesWhatHasChanged: of three services in one file, two of
// them no Go programs, one gets another address, one goes, one comes. The process
// and the connections of the one that stays are not touched.
func TestAChangedFileTouchesWhatHasChanged(t *testing.T) {
	gunicorn, err := exec.LookPath("gunicorn")
	testenv.Need(t, "gunicorn", err == nil)
	node, err := exec.LookPath("node")
	testenv.Need(t, "node", err == nil)
	ours := fmt.Sprintf("    command: [%q, one]\n    environment: {%s: program}\n", os.Args[0], roleVariable)
	app := "  app:\n    command: " + gunicorn + " --worker-class gthread --keep-alive 60 --log-level warning app:app\n    listen: 127.0.0.1:0\n    ready: notify\n"
	web := "  web:\n    command: [" + node + ", server.js]\n    ready: listen\n    listen: "
	f := keepFile(t, "services:\n"+app+web+"127.0.0.1:0\n  old:\n    listen: 127.0.0.1:0\n"+ours,
		map[string]string{"app.py": gunicornApp, "server.js": nodeServer})
	before := f.services()
	endOfApp := load(t, addressOf(before["app"]))
	endOfWeb := load(t, addressOf(before["web"]))
	kept := dialKept(t, addressOf(before["app"]))
	first := kept.ask(t)
	if n, err := endOfWeb(); err != nil || n == 0 {
		t.Errorf("%d answers, %v", n, err)
	}

	f.write("services:\n" + app + web + "127.0.0.2:0\n  new:\n    listen: 127.0.0.1:0\n" + ours)
	r := f.command("upgrade")
	if r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	for _, want := range []string{"added:       new\n", "replaced:    web\n", "removed:     old\n", "not touched: app\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%s, want %s", r.stdout, want)
		}
	}
	after := f.services()
	if len(after["app"].Generations) != 1 || after["app"].Generations[0].Workers[0].PID != before["app"].Generations[0].Workers[0].PID || after["app"].Generation != 1 {
		t.Errorf("app was %+v, is %+v", before["app"], after["app"])
	}
	if again := kept.ask(t); again != first {
		t.Errorf("pid %s answers on the connection, not %s", again, first)
	}
	if n, err := endOfApp(); err != nil || n == 0 {
		t.Errorf("%d answers, %v", n, err)
	}
	if addr := addressOf(after["web"]); !strings.HasPrefix(addr, "127.0.0.2:") {
		t.Errorf("web listens on %s", addr)
	} else if _, err := fetch(t, addr); err != nil {
		t.Error(err)
	}
	if _, err := fetch(t, addressOf(after["new"])); err != nil {
		t.Error(err)
	}
	proctest.Poll(t, "the end of the old address, and of the old service", func() bool {
		_, oldThere := f.services()["old"]
		_, errWeb := fetch(t, addressOf(before["web"]))
		_, errOld := fetch(t, addressOf(before["old"]))
		return !oldThere && errors.Is(errWeb, syscall.ECONNREFUSED) && errors.Is(errOld, syscall.ECONNREFUSED)
	})
}

// keptAlive is one connection, for many requests.
type keptAlive struct {
	conn net.Conn
	r    *bufio.Reader
}

func dialKept(t *testing.T, addr string) *keptAlive {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * proctest.Patience(t)))
	return &keptAlive{c, bufio.NewReader(c)}
}

func (k *keptAlive) ask(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(k.conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(k.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Close {
		t.Errorf("%v, close %v", err, r.Close)
	}
	return string(body)
}

// TestAMalformedFileChangesNothing: the running keeper refuses each, with the
// place, and goes on as it was.
func TestAMalformedFileChangesNothing(t *testing.T) {
	good := fmt.Sprintf("services:\n  web:\n    command: [%q, one]\n    listen: 127.0.0.1:0\n    workers: 2\n    kill_timeout: 5s\n    environment:\n      %s: program\n  api:\n    command: [%q]\n    environment:\n      %s: program\n    listen: [\"127.0.0.1:0\"]\n",
		os.Args[0], roleVariable, os.Args[0], roleVariable)
	f := keepFile(t, good, nil)
	before := f.services()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	place := regexp.MustCompile(regexp.QuoteMeta(f.file) + `:\d+:\d+: `)
	for n := 0; n < testenv.Count(200, 2000); {
		at := r.IntN(len(good))
		text := good[:at] + string(`{}[]:,&*#?|->'"%@!x	`[r.IntN(20)]) + good[at+r.IntN(2):]
		if f.write(text); loads(f.file) {
			continue
		}
		n++
		out, err := f.client.Upgrade(context.Background(), control.UpgradeRequest{})
		if err != nil || out.Result != control.Refused || !place.MatchString(out.Reason) {
			t.Fatalf("seed %d: %v, %+v\n%s", seed, err, out, text)
		}
	}
	f.keeper.cmd.Process.Signal(syscall.SIGHUP)
	for name, s := range f.services() {
		if was := before[name]; s.Generation != was.Generation || len(s.Generations) != 1 || s.Listen[0] != was.Listen[0] || s.Workers != was.Workers {
			t.Errorf("%s was %+v, is %+v", name, was, s)
		}
		for i, w := range s.Generations[0].Workers {
			if pid := before[name].Generations[0].Workers[i].PID; w.PID != pid {
				t.Errorf("%s: pid %d, was %d", name, w.PID, pid)
			}
		}
	}
	f.write(strings.Replace(good, "workers: 2", "wrokers: 2", 1))
	f.command("upgrade").expect(t, exitRefused, "", "tablecloth.yaml:5:5: unknown key \"wrokers\": did you mean workers?")
	f.write("pidfile: x\n" + good)
	f.command("upgrade").expect(t, exitRefused, "", "pidfile has changed, which takes a new start of the keeper")
}

func loads(file string) bool {
	_, err := config.Load(file)
	return err == nil
}

// TestCommandsTakeNames goes through the life of two services of one file.
func TestCommandsTakeNames(t *testing.T) {
	ours := fmt.Sprintf("    command: [%q]\n    environment: {%s: program}\n    listen: 127.0.0.1:0\n", os.Args[0], roleVariable)
	f := keepFile(t, "services:\n  web:\n"+ours+"  api:\n"+ours, nil)
	f.command("upgrade", "api").expect(t, exitDone, "api: generation 2 is ready", "")
	f.command("restart").expect(t, exitDone, "web: generation 2 is ready", "")
	f.command("upgrade", "--all-at-once", "--all").expect(t, exitDone, "web: generation 3 is ready", "")
	if all := f.services(); all["web"].Generation != 3 || all["api"].Generation != 4 {
		t.Errorf("%+v", all)
	}
	f.command("upgrade", "nobody").expect(t, exitRefused, "", "nobody")
	f.command("scale", "web=3").expect(t, exitDone, "web: 3 workers of generation ", "")
	f.command("status", "web").expect(t, exitDone, ", 3 workers, keeper pid ", "")
	f.command("scale", "web=1").expect(t, exitDone, "web: 1 worker of generation ", "")
	f.command("broadcast", "web", "hello").expect(t, exitFailed, "", "none of 1 worker can hear it")
	f.command("stop", "web").expect(t, exitDone, "", "")
	if _, err := fetch(t, addressOf(f.services()["api"])); err != nil {
		t.Error(err)
	}
	if s := f.services()["web"]; len(s.Generations) > 0 {
		t.Errorf("%+v", s)
	}
	f.command("stop").expect(t, exitDone, "", "")
	f.command("status").expect(t, exitNotRunning, "", "nothing listens")
}
