//go:build linux

package keeper

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const gunicornApp = `
import os
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Connection', 'close')])
    return [b'%d ' % os.getppid()]
`

const nodeServer = `
const http = require('http')
const s = http.createServer((q, r) => { r.setHeader('Connection', 'close'); r.end(process.pid + ' ') })
s.listen({fd: 3})
process.on('SIGTERM', () => s.close())
`

// pythonServer does what sd_listen_fds(3) does, then serves with a blocking accept,
// until SIGTERM ends it in the middle of whatever it does.
const pythonServer = `
import os, socket, sys
if int(os.environ['LISTEN_PID']) != os.getpid() or int(os.environ['LISTEN_FDS']) < 1:
    sys.exit('not for me: ' + os.environ['LISTEN_PID'])
s = socket.socket(fileno=3)
while True:
    c, _ = s.accept()
    c.settimeout(5)
    try:
        c.recv(65536)
        c.sendall(b'HTTP/1.0 200 OK\r\n\r\n%d ' % os.getpid())
        c.shutdown(socket.SHUT_WR)
        c.recv(65536)
    except OSError:
        pass
    c.close()
`

// starterServer knows of its socket only by Server::Starter's environment.
const starterServer = `
use strict; use warnings;
my ($port, $fd) = split /=/, (split /;/, $ENV{SERVER_STARTER_PORT})[0];
die "generation $ENV{SERVER_STARTER_GENERATION}" unless $ENV{SERVER_STARTER_GENERATION} >= 1;
die "port $port" unless $port =~ /^127\.0\.0\.1:[1-9][0-9]*$/;
open(my $l, '+<&=', $fd) or die $!;
` + perlLoop

// einhornServer knows of its socket only by einhorn's, and says so as its clients
// do: in YAML, escaped.
const einhornServer = `
use strict; use warnings; use Socket;
die "not einhorn's child" unless $ENV{EINHORN_MASTER_PID} == getppid() && $ENV{EINHORN_FD_COUNT} == 1;
open(my $l, '+<&=', $ENV{EINHORN_FD_0}) or die $!;
my $s; socket($s, PF_UNIX, SOCK_STREAM, 0) && connect($s, sockaddr_un($ENV{EINHORN_SOCK_PATH})) or die $!;
syswrite($s, "---%0Acommand: worker:ack%0Apid: $$%0A\n");
$SIG{TERM} = sub { die "SIGTERM is not einhorn's way" };
` + perlLoop

const perlLoop = `
my ($busy, $stop) = (0, 0);
$SIG{TERM} ||= sub { exit 0 unless $busy; $stop = 1 };
$SIG{USR2} = sub { exit 0 unless $busy; $stop = 1 };
until ($stop) {
    $busy = accept(my $c, $l) or next;
    sysread($c, my $request, 65536);
    syswrite($c, "HTTP/1.0 200 OK\r\n\r\n$$ ");
    shutdown($c, 1);
    sysread($c, $request, 65536);
    close $c;
    $busy = 0;
}
`

// TestForeignPrograms keeps programs that have never heard of us.
func TestForeignPrograms(t *testing.T) {
	t.Parallel()
	look := func(t *testing.T, name string) string {
		path, err := exec.LookPath(name)
		testenv.Need(t, name, err == nil)
		return path
	}
	perl := func(program string) func(*testing.T, string) []string {
		return func(t *testing.T, _ string) []string { return []string{look(t, "perl"), "-e", program} }
	}
	for _, x := range []struct {
		name    string
		command func(t *testing.T, dir string) []string
		mode    string
		readyBy string
	}{
		{"gunicorn", func(t *testing.T, dir string) []string {
			os.WriteFile(filepath.Join(dir, "app.py"), []byte(gunicornApp), 0o644)
			return []string{look(t, "gunicorn"), "--workers", "2", "--log-level", "warning", "app:app"}
		}, "notify", "notify"},
		{"node", func(t *testing.T, dir string) []string {
			os.WriteFile(filepath.Join(dir, "server.js"), []byte(nodeServer), 0o644)
			return []string{look(t, "node"), "server.js"}
		}, "listen", "listen"},
		{"python with a blocking accept", func(t *testing.T, dir string) []string {
			os.WriteFile(filepath.Join(dir, "server.py"), []byte(pythonServer), 0o644)
			return []string{python(t), "server.py"}
		}, "listen", "listen"},
		{"perl for Server Starter", perl(starterServer), "listen", "listen"},
		{"perl for einhorn", perl(einhornServer), "notify", "einhorn"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := keep(t, Service{Command: x.command(t, dir), Listen: []string{"127.0.0.1:0"}, Directory: dir, MaxDeaths: -1,
				Ready: x.mode}) // auto would give up waiting after 3 s, if this machine is very busy
			l := startLoad(b.serving(), 2)
			if g := b.status().Generations[0]; g.ReadyBy != x.readyBy || !g.Confirmed {
				t.Errorf("ready by %q, confirmed %v", g.ReadyBy, g.Confirmed)
			}
			for range soak(2, 10) {
				last := b.lastSeq()
				if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || !o.Confirmed {
					t.Errorf("%+v", o)
				}
				b.await(control.EventGone, last)
			}
			for range soak(2, 10) {
				was, last := b.worker(), b.lastSeq()
				proctest.Kill(was, syscall.SIGKILL)
				b.await(control.EventReady, last)
				if pid := awaitAnswer(t, b.addr, ""); atoi(t, pid) != b.worker() {
					t.Errorf("%s answers, not %d", pid, b.worker())
				}
			}
			l.end()
			if l.refused.Load() > 0 || l.answers.Load() == 0 {
				t.Error(l)
			}
			t.Log(l)
		})
	}
}

// TestReadyIsSeen: auto, with a program that never says so.
func TestReadyIsSeen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "server.py"), []byte(pythonServer), 0o644)
	b := keep(t, Service{Command: []string{python(t), filepath.Join(dir, "server.py")}, Listen: []string{"127.0.0.1:0"}})
	start := time.Now()
	b.serving()
	switch g := b.status().Generations[0]; {
	case time.Since(start) >= DefaultAliveFor:
		t.Skip("this machine is too busy: the program wasn't ready after 3 s")
	case g.ReadyBy != "listen" || !g.Confirmed:
		t.Errorf("%+v", g)
	}
}

// TestReadyIsSeenOfABusyProgram: one that is never found waiting, as it serves a
// request that takes long.
func TestReadyIsSeenOfABusyProgram(t *testing.T) {
	t.Parallel()
	b := keep(t, Service{Command: []string{python(t), "-c", "import socket, time; c = socket.socket(fileno=3).accept(); time.sleep(1000)"},
		Listen: []string{"127.0.0.1:0"}, Ready: "listen"}, func(b *bed) {})
	b.await(control.EventStart, 0)
	c, err := net.Dial("tcp", strings.TrimPrefix(b.status().Listen[0], "tcp:"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.await(control.EventReady, 0)
}

func TestReadyByDescriptor(t *testing.T) {
	t.Parallel()
	b := keep(t, Service{Command: []string{"/bin/sh", "-c", "sleep 0.1; echo >&7; exec sleep 1000"}, Ready: "fd=7"})
	b.await(control.EventReady, 0)
	if g := b.status().Generations[0]; g.ReadyBy != "fd" || !g.Confirmed {
		t.Errorf("%+v", g)
	}
}

func TestASilentProgramIsNotConfirmed(t *testing.T) {
	t.Parallel()
	start := time.Now()
	b := keep(t, Service{Command: []string{"/bin/sleep", "1000"}, Listen: []string{"127.0.0.1:0"}})
	b.await(control.EventReady, 0)
	if g := b.status().Generations[0]; g.ReadyBy != "alive" || g.Confirmed || time.Since(start) < DefaultAliveFor {
		t.Errorf("after %v: %+v", time.Since(start), g)
	}
	if !strings.Contains(b.log(), "not confirmed") {
		t.Error("the log doesn't say that it is not confirmed")
	}
}

// TestWhoOnceSaidReadyMustSayItAgain: a generation that said so itself is only
// followed by one that does.
func TestWhoOnceSaidReadyMustSayItAgain(t *testing.T) {
	t.Parallel()
	s := local(t).named("web")
	b := keepAll(t, s)
	proctest.Poll(t, "its own word", func() bool { // it may be seen to listen first
		return b.of("web").Generations[0].ReadyBy == "notify"
	})
	s.Command, s.ReadyTimeout = role(t, "serve", "silent"), time.Second
	b.configure(s)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.TimedOut || !strings.Contains(o.Hint, "--ready") {
		t.Errorf("%+v", o)
	}
}

// TestProgramsInOtherLanguagesSideBySide: under load one service is added, one gets
// another port, one goes, and the process and the connections of the fourth are the
// same as before.
func TestProgramsInOtherLanguagesSideBySide(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "app.py"), []byte(gunicornApp), 0o644)
	os.WriteFile(filepath.Join(dir, "server.js"), []byte(keepingNode), 0o644)
	program := func(name string, args ...string) Service {
		path, err := exec.LookPath(name)
		testenv.Need(t, name, err == nil)
		return Service{Name: name, Command: append([]string{path}, args...), Directory: dir, Listen: []string{"127.0.0.1:0"}, MaxDeaths: -1}
	}
	node, gunicorn := program("node", "server.js"), program("gunicorn", "--workers", "1", "--log-level", "warning", "app:app")
	node.Ready, gunicorn.Ready = "listen", "notify"
	gone := webs(t, 1).named("gone")
	b := keepAll(t, node, gunicorn, gone)
	conn, err := net.Dial("tcp", b.on("node"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before, moved := request(t, conn), b.on("gunicorn")
	l := startLoad(b.on("node"), 2)
	gunicorn.Listen = []string{"other=127.0.0.1:0"}
	b.configure(node, gunicorn, webs(t, 2).named("added"))
	o := b.upgrade(control.UpgradeRequest{})
	if o.Result != control.Ready || fmt.Sprint(o.Changes.Added, o.Changes.Replaced, o.Changes.Removed, o.Changes.Unchanged) != "[added] [gunicorn] [gone] [node]" {
		t.Fatalf("%+v, %+v", o, o.Changes)
	}
	for _, name := range []string{"gunicorn", "added"} {
		if _, err := ask(b.on(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	proctest.Poll(t, "the end of the old port", func() bool { return closed(moved) })
	if after := request(t, conn); after != before {
		t.Errorf("process %s answered on the connection, then %s", before, after)
	}
	l.end()
	if l.refused.Load() > 0 || l.broken.Load() > 0 || len(l.seen) != 1 {
		t.Error(l)
	}
	proctest.Install(t, filepath.Join(dir, "server.js"), []byte(keepingNode+"// better"), 0o644)
	if o := b.upgrade(control.UpgradeRequest{}); fmt.Sprint(o.Changes.Replaced) != "[node]" {
		t.Errorf("with another script: %+v, %+v", o, o.Changes)
	}
}

// request makes one on a connection that stays.
func request(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(proctest.Patience(t)))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
