//go:build linux

// Package rescue holds the tests of what becomes of connections whose process
// dies: a real keeper, real workers, clients that forgive nothing.
package rescue

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/server"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// TestMain lets the test binary be a keeper, or the program that it keeps.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "as-keeper":
			asKeeper(os.Args[2])
			return
		case "as-bare":
			asBare()
			return
		case "as-worker":
			asWorker(os.Args[2])
			return
		}
	}
	os.Exit(m.Run())
}

func newLog() *logrus.Logger {
	log := logrus.New()
	log.SetFormatter(&logrus.TextFormatter{DisableColors: true, TimestampFormat: "15:04:05.000", FullTimestamp: true})
	return log
}

func asKeeper(conf string) {
	var c keeper.Config
	check(json.Unmarshal([]byte(conf), &c))
	c.Log = newLog()
	keeper.Exit(keeper.Run(context.Background(), c))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "test process:", err)
		os.Exit(99)
	}
}

// setting is what a test wants of its worker.
type setting struct {
	Web       []string
	Others    []string // of a service of Conns, which says hello and then nothing
	TLS       []string // of a service of HTTP over TLS
	RescueOff bool
	Holds     bool   // a flock, a port, a session with the test, see held
	Record    string // a file, see recorded
	Lock      string
	Session   string
}

func asWorker(text string) {
	var set setting
	check(json.Unmarshal([]byte(text), &set))
	if set.Holds {
		hold(set)
	}
	log := newLog().WithField("pid", os.Getpid())
	app := http.NewServeMux()
	var services []*server.Service
	if len(set.Web) > 0 {
		services = append(services, server.HTTP("web", &http.Server{Handler: app}, set.Web...))
	}
	if len(set.TLS) > 0 {
		services = append(services, server.HTTP("tls", &http.Server{Handler: app, TLSConfig: selfSigned()}, set.TLS...))
	}
	if len(set.Others) > 0 {
		services = append(services, server.Conns("greeter", greet, set.Others...))
	}
	for _, svc := range services {
		if set.RescueOff {
			svc.Rescue = server.Off
		}
	}
	s, err := server.New(server.Options{Log: log}, services...)
	check(err)
	g := s.Upgrader().Generation()
	app.Handle("/", strict.Handler(g))
	app.Handle("POST /die", strict.Stamp(g, http.HandlerFunc(die)))
	app.Handle("GET /crash", strict.Stamp(g, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		server.Go(r.Context(), func() { panic("as the test wants it") })
	})))
	app.Handle("GET /hang", strict.Stamp(g, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { select {} })))
	app.Handle("GET /half", strict.Stamp(g, http.HandlerFunc(half)))
	if set.Record != "" {
		f, err := os.OpenFile(set.Record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		check(err)
		app.Handle("/record", strict.Stamp(g, recorded(f)))
	}
	check(s.Run(context.Background()))
}

// half sends a part of an answer, and never the rest.
func half(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	io.WriteString(w, "the first part")
	http.NewResponseController(w).Flush()
	select {}
}

func greet(_ context.Context, c net.Conn) {
	io.WriteString(c, "hello\n")
	select {}
}

// hold takes what a service may have besides its clients' connections.
func hold(set setting) {
	f, err := os.OpenFile(set.Lock, os.O_CREATE|os.O_RDWR, 0o600)
	check(err)
	check(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	ln, err := net.Listen("tcp", "127.0.0.1:")
	if text, rerr := os.ReadFile(set.Lock); rerr == nil && len(text) > 0 {
		if ln != nil {
			ln.Close()
		}
		ln, err = net.Listen("tcp", string(text))
	}
	check(err)
	check(os.WriteFile(set.Lock, []byte(ln.Addr().String()), 0o600))
	c, err := net.Dial("tcp", set.Session)
	check(err)
	fmt.Fprintln(c, os.Getpid())
	reply := make([]byte, 1)
	if _, err := c.Read(reply); err != nil || reply[0] != '+' {
		check(fmt.Errorf("the session of another process is open: %v", err))
	}
	held = []any{f, ln, c}
}

var held []any

// deaths are the ways to end, by their names in the query.
var deaths = map[string]func(){
	"kill":   func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) },
	"panic":  func() { go panic("as the test wants it") },
	"exit":   func() { os.Exit(3) },
	"zero":   func() { os.Exit(0) },
	"segv":   func() { syscall.Kill(os.Getpid(), syscall.SIGSEGV) },
	"abort":  func() { syscall.Kill(os.Getpid(), syscall.SIGABRT) },
	"map":    func() { writeMap() },
	"stack":  func() { debug.SetMaxStack(1 << 20); overflow(1) },
	"memory": func() { exhaust() },
	"group":  func() { syscall.Kill(0, syscall.SIGKILL) },
}

func die(w http.ResponseWriter, r *http.Request) {
	deaths[r.FormValue("of")]()
	select {}
}

func writeMap() {
	m := map[int]int{}
	for range 8 {
		go func() {
			for i := 0; ; i++ {
				m[i%100] = i
			}
		}()
	}
}

func overflow(n int) int {
	if n < 0 {
		return 0
	}
	var room [1 << 10]byte
	room[n%len(room)] = byte(n)
	return overflow(n+1) + int(room[n%7])
}

// exhaust asks for memory until the kernel has no more for this process.
func exhaust() {
	unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	var all [][]byte
	for {
		b := make([]byte, 64<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
		_ = all
	}
}
