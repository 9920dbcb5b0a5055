//go:build linux

package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// TestMain lets the test binary be a keeper, or one of the programs that tests
// have kept: os.Args[1] says which.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if f := roles[os.Args[1]]; f != nil {
			f(os.Args[2:])
			return
		}
	}
	os.Exit(m.Run())
}

var roles = map[string]func(args []string){
	"as-keeper":      asKeeper,
	"serve":          serve,
	"exit":           func(args []string) { n, _ := strconv.Atoi(args[0]); os.Exit(n) },
	"hang":           func([]string) { select {} },
	"panic":          func([]string) { notifyReady(); panic("as the test wants it") },
	"deaf":           deaf,
	"chatter":        chatter,
	"become":         become,
	"library":        library,
	"storer":         storer,
	"web":            web,
	"without-rights": withoutRights,
}

// asKeeper runs what a test has written down for it.
func asKeeper(args []string) {
	var c Config
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		panic(err)
	}
	log := logrus.New()
	log.SetOutput(os.Stderr)
	log.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true})
	c.Log = log
	if path := os.Getenv("TEST_REREAD"); path != "" {
		c.Reread = reread(path)
	}
	Exit(Run(context.Background(), c))
}

func become([]string) {
	Become(Config{Control: os.Getenv("TEST_CONTROL"), Services: []Service{{Name: "become", Listen: []string{"127.0.0.1:0"}}}})
	serve(nil)
}

func notifyReady() {
	n, err := sd.NewNotifier(os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		panic(err)
	}
	n.Ready()
}

// serve is an HTTP server on the sockets that it is given, which answers with its
// PID and the generation. Arguments: "deaf" ignores SIGTERM, "silent" never says
// that it is ready, "children" leaves descendants that hold the port.
func serve(args []string) {
	has := func(s string) bool {
		for _, a := range args {
			if a == s {
				return true
			}
		}
		return false
	}
	sockets, err := sd.Listen()
	if err != nil || len(sockets) == 0 {
		fmt.Fprintln(os.Stderr, "no sockets:", err)
		os.Exit(3)
	}
	ln, err := net.FileListener(sockets[0].File())
	if err != nil {
		panic(err)
	}
	if has("children") {
		leaveChildren(int(sockets[0].FD))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d %s %s %s", os.Getpid(), os.Getenv("TABLECLOTH_GENERATION"), os.Getenv("TEST_VERSION"), strings.Join(args, ","))
	})
	mux.HandleFunc("/panic", func(w http.ResponseWriter, r *http.Request) { go panic("as the test wants it") })
	hs := &http.Server{Handler: mux}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go hs.Serve(ln)
	if !has("silent") {
		notifyReady()
	}
	<-term
	for has("deaf") {
		<-term
	}
	hs.Shutdown(context.Background())
}

// leaveChildren makes processes that hold the port: one in our group, one that has
// left it by setsid, one that has been orphaned as well.
func leaveChildren(fd int) {
	for _, script := range []string{"sleep 1000", "setsid sleep 1000", "(setsid sleep 1000 &)"} {
		_, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
			Env: os.Environ(), Files: []uintptr{0, 1, 2, uintptr(fd)},
		})
		if err != nil {
			panic(err)
		}
	}
}

// deaf does what makes programs hard to end.
func deaf(args []string) {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	notifyReady()
	switch args[0] {
	case "stopped":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "closes-stderr":
		os.Stderr.Close()
	case "floods":
		line := strings.Repeat("x", 1023) + "\n"
		for {
			io.WriteString(os.Stderr, line)
		}
	}
	select {}
}

// chatter begins to write when it is told to end, goes on until it may end, and
// says in a file that it has come to its end.
func chatter(args []string) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	notifyReady()
	<-term
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(os.Stderr, "line %d %s\n", i, strings.Repeat("y", 1000)); err != nil {
			os.WriteFile(args[0], []byte(err.Error()), 0o644)
			os.Exit(1)
		}
		if _, err := os.Stat(args[1]); err == nil {
			break
		}
		proctest.Pace(time.Millisecond)
	}
	fmt.Fprintln(os.Stderr, "the last line")
	os.WriteFile(args[0]+".tmp", []byte("end"), 0o644)
	os.Rename(args[0]+".tmp", args[0])
}

// library is a worker that speaks the keeper's own protocol. It writes down what
// it is told, and does what SIGUSR1 (crash), SIGUSR2 (upgrade) and SIGWINCH
// (leave) say.
func library(args []string) {
	c, err := kept.Dial()
	if err != nil || c == nil {
		fmt.Fprintln(os.Stderr, "no keeper:", err)
		os.Exit(3)
	}
	sig := make(chan os.Signal, 8)
	signal.Notify(sig, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	signal.Ignore(syscall.SIGTERM)
	c.Send(&kept.Hello{Version: kept.Version, Build: "v0"})
	go func() {
		for s := range sig {
			switch s {
			case syscall.SIGUSR1:
				c.Send(&kept.Crash{Error: "caught", Stack: "a stack", Count: 1})
			case syscall.SIGUSR2:
				c.Send(&kept.Upgrade{UpgradeRequest: control.UpgradeRequest{ID: "wish", Trigger: "api"}})
			case syscall.SIGWINCH:
				c.Send(&kept.Leave{Reason: "SIGTERM"})
			}
		}
	}()
	for {
		m, _, err := c.Recv()
		if err != nil {
			fmt.Fprintln(os.Stderr, "told: end of the line:", err)
			return
		}
		switch m := m.(type) {
		case *kept.Welcome:
			fmt.Fprintf(os.Stderr, "told: welcome %d %s\n", m.Generation, m.Service)
			c.Send(&kept.Ready{})
		case *kept.Go:
			fmt.Fprintln(os.Stderr, "told: go")
		case *kept.Inquiry:
			c.Send(&kept.Status{Text: "at your service", Conns: &control.Conns{Open: 7}, Inquiry: m.Number})
		case *kept.Outcome:
			fmt.Fprintf(os.Stderr, "told: outcome %s %s\n", m.ID, m.Result)
		case *kept.Drain:
			fmt.Fprintf(os.Stderr, "told: drain %s %v\n", m.Reason, m.Timeout > 0)
			return
		}
	}
}

// storer pushes a descriptor to the keeper, and says what it was given.
func storer([]string) {
	sockets, err := sd.Listen()
	if err != nil {
		panic(err)
	}
	for _, s := range sockets {
		var data [16]byte
		n, _ := syscall.Pread(s.FD, data[:], 0)
		fmt.Fprintf(os.Stderr, "given %s with %q\n", s.Name, data[:max(n, 0)])
	}
	n, err := sd.NewNotifier(os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		panic(err)
	}
	f, err := memoryFile([]byte(os.Getenv("TABLECLOTH_GENERATION")))
	if err != nil {
		panic(err)
	}
	n.Send(sd.Message{}.FDStore("of-"+os.Getenv("TABLECLOTH_GENERATION"), int(f.Fd())))
	if os.Getenv("TABLECLOTH_GENERATION") == "2" {
		os.Exit(1)
	}
	n.Ready()
	select {}
}
