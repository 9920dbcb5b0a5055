//go:build linux

package integration

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Two releases of this library that understand each other follow one another,
// in both directions.
func TestOtherReleaseThatIsUnderstood(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		releases := []string{demo(t), otherRelease(t, "demo-newer", "2, 1")}
		b.demo()
		l := startLoad(t, "tcp", b.tcp(), everyKind()...)
		l.sees(1)
		for g := 2; g <= 5; g++ {
			b.link(releases[(g+1)%2])
			b.mustUpgrade()
			l.sees(g)
		}
		wantUnbroken(t, l.stop(), 5)
	})
}

// Two that don't: the old one serves on, whichever it is, and says which
// versions they speak.
func TestOtherReleaseThatIsNotUnderstood(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		incompatible := otherRelease(t, "demo-incompatible", "3, 3")
		for _, pair := range [][2]string{{demo(t), incompatible}, {incompatible, demo(t)}} {
			b := newBed(t, b.mode)
			b.link(pair[0])
			b.start(b.demoArgs()...)
			l := startLoad(t, "tcp", b.tcp(), strict.Group{Kind: strict.Post, N: 3}) // who sees the next one has moved
			l.sees(1)
			b.link(pair[1])
			b.mustFail(1, "speaks protocol", "1 (oldest 1)", "3 (oldest 3)")
			b.link(pair[0])
			b.mustHeal()
			l.sees(2)
			wantUnbroken(t, l.stop(), 2)
		}
	})
}

// plainProgram uses tableflip as its manual has it, and nothing of ours. It
// takes the demo's arguments.
const plainProgram = `package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/cloudflare/tableflip"
)

func main() {
	web := flag.String("web", "", "")
	api := flag.String("api", "", "")
	pidfile := flag.String("pidfile", "", "")
	flag.String("unix", "", "")
	flag.String("control", "", "")
	flag.Parse()
	upg, err := tableflip.New(tableflip.Options{PIDFile: *pidfile})
	check(err)
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGHUP)
	go func() {
		for range sig {
			if err := upg.Upgrade(); err != nil {
				fmt.Fprintln(os.Stderr, "plain: upgrade failed:", err)
			}
		}
	}()
	addr := *web
	if *api != "" { // what it listens on where the demo has web
		addr = *api
	}
	ln, err := upg.Listen("tcp", addr)
	check(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pid", strconv.Itoa(os.Getpid()))
		fmt.Fprintln(w, "plain")
	})}
	go server.Serve(ln)
	check(upg.Ready())
	fmt.Fprintln(os.Stderr, "plain: ready")
	<-upg.Exit()
	server.Shutdown(context.Background())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "plain:", err)
		os.Exit(1)
	}
}
`

func plain(t *testing.T) string {
	t.Helper()
	source := filepath.Join(t.TempDir(), "plain.go")
	write(t, source, plainProgram, 0o644)
	return build(t, "plain", source)
}

// A program without this library upgrades to one that has it: the sockets are
// taken over, and from then on all is as it should be.
func TestFromAProgramWithoutTheLibrary(t *testing.T) {
	t.Parallel()
	b := newBed(t, alone)
	addr := proctest.FreeAddr(t)
	b.link(plain(t))
	b.launch("--web", addr, "--api", "", "--unix", b.unix, "--pidfile", b.pidfile, "--control", b.control)
	b.logged("plain: ready")
	old := b.pidInFile()
	l := probe(t, addr)
	b.link(demo(t))
	b.hup()
	pid := b.ready()
	b.ended(old)
	if refused := l.end(); refused > 0 {
		t.Errorf("%d connects were refused", refused)
	}
	b.serves(pid)
	b.mustHeal()
	b.stop()
}

// An upgrade to a program without this library: it gets no sockets of ours.
// Where it needs one the upgrade fails, and the requester learns why.
func TestToAProgramWithoutTheLibrary(t *testing.T) {
	t.Parallel()
	b := newBed(t, alone)
	addr := proctest.FreeAddr(t)
	b.link(demo(t))
	args := b.demoArgs()
	args[1] = addr
	b.start(args...)
	b.link(plain(t))
	b.mustFail(1, "exit status 1")
	b.logged("plain: .*address already in use")
	b.link(demo(t))
	b.mustHeal()
}

// One that listens elsewhere takes over: what it does is its own affair, and
// whoever asked is told that it has.
func TestToAProgramWithoutTheLibraryElsewhere(t *testing.T) {
	t.Parallel()
	b := newBed(t, alone)
	other := proctest.FreeAddr(t)
	b.demo()
	old := b.pidInFile()
	write(t, b.path("plain.sh"), fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" --api %s\n", plain(t), other), 0o755)
	b.link(b.path("plain.sh"))
	o := b.upgrade()
	t.Logf("%+v", o)
	b.poll("an answer of the new program", func() bool {
		a, err := ask(t.Context(), "tcp", other, "GET", "/")
		return err == nil && strings.Contains(a.body, "plain")
	})
	if o.Result != control.Ready {
		t.Errorf("told %+v", o)
	}
	b.ended(old)
	b.watch(o.PID) // it says nothing to the service manager
	proctest.Kill(o.PID, syscall.SIGTERM)
}

// prober connects again and again.
type prober struct {
	stop    chan struct{}
	refused chan int
}

func probe(t *testing.T, addr string) *prober {
	p := &prober{make(chan struct{}), make(chan int, 1)}
	go func() {
		n := 0
		for {
			select {
			case <-p.stop:
				p.refused <- n
				return
			default:
			}
			c, err := net.Dial("tcp", addr)
			if err != nil {
				n++
				continue
			}
			c.(*net.TCPConn).SetLinger(0) // thousands of them leave no ports behind
			c.Close()
		}
	}()
	return p
}

func (p *prober) end() int {
	close(p.stop)
	return <-p.refused
}
