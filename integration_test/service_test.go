//go:build linux

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/server"
)

const envSettings = "TABLECLOTH_TEST_SETTINGS"

// settings is what the test wants of the generations of its own service: read
// anew by each of them, as a configuration file would be.
type settings struct {
	Web, API                            []string // addresses of its servers; no API: no such server
	Secure                              []string // of one with TLS
	H2C                                 bool     // web speaks HTTP/2 as well
	Cert, Key                           string
	HandoverOff                         bool
	KillTimeout, IdleGrace, GiveUpPause time.Duration
	MaxCrashes                          int
	Hold                                string // path of a socket: connected to before New, and waited at for its end
	Descriptors                         uint64 // RLIMIT_NOFILE; 0: as it is
	PIDFile, Control                    string
}

func (s settings) write(t *testing.T, path string) {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path+".new", string(b), 0o644)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// serve is a generation of the service.
func serve(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var set settings
	if err := json.Unmarshal(b, &set); err != nil {
		return err
	}
	if n := set.Descriptors; n > 0 {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	if set.Hold != "" {
		if err := holdAt(set.Hold); err != nil {
			return err
		}
	}
	log := logrus.New()
	log.SetFormatter(&logrus.TextFormatter{DisableColors: true, TimestampFormat: "15:04:05.000", FullTimestamp: true})
	app := &app{together: make(chan struct{})}
	s, err := server.New(server.Options{
		PIDFile: set.PIDFile, Control: set.Control, KillTimeout: set.KillTimeout, IdleGrace: set.IdleGrace,
		MaxCrashes: set.MaxCrashes, GiveUpPause: set.GiveUpPause,
		OnCrash: func(_ context.Context, c server.Crash) {
			log.Errorf("hook: crash %d of pid %d: %v", c.Count, os.Getpid(), c.Err)
		},
		Log: log.WithField("pid", os.Getpid()),
	}, set.services(app)...)
	if err != nil {
		return err
	}
	app.generation = s.Upgrader().Generation()
	return s.Run(context.Background())
}

func holdAt(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(io.Discard, c)
	return err
}

func (set settings) services(a *app) []*server.Service {
	hs := &http.Server{Handler: a}
	if set.H2C {
		hs.Protocols = new(http.Protocols)
		hs.Protocols.SetHTTP1(true)
		hs.Protocols.SetUnencryptedHTTP2(true)
	}
	all := []*server.Service{server.HTTP("web", hs, set.Web...)}
	if len(set.API) > 0 {
		all = append(all, server.HTTP("api", &http.Server{Handler: a}, set.API...))
	}
	if len(set.Secure) > 0 {
		all = append(all, server.HTTPS("secure", &http.Server{Handler: a}, set.Cert, set.Key, set.Secure...))
	}
	for _, svc := range all {
		if set.HandoverOff {
			svc.Handover = server.Off
		}
	}
	return all
}

// app is what the strict clients expect, and ways to break it.
type app struct {
	generation int
	plain      sync.Once
	handler    http.Handler

	mu       sync.Mutex
	arrived  int
	together chan struct{}
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.plain.Do(func() {
		mux := http.NewServeMux()
		mux.Handle("/", strict.Handler(a.generation))
		mux.HandleFunc("GET /ticks", ticks)
		mux.HandleFunc("GET /proto", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
		mux.HandleFunc("GET /asyncerror", func(_ http.ResponseWriter, r *http.Request) {
			server.Go(r.Context(), func() { panic("async error") })
		})
		mux.HandleFunc("GET /together", a.crashTogether)
		a.handler = strict.Stamp(a.generation, mux)
	})
	a.handler.ServeHTTP(w, r)
}

// ticks is a stream of server-sent events that ends with the generation.
func ticks(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		fmt.Fprintf(w, "data: %d\n\n", i)
		if rc.Flush() != nil {
			return
		}
		select {
		case <-server.Draining(r.Context()):
			io.WriteString(w, "event: bye\ndata: reconnect\n\n")
			return
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// crashTogether lets a background goroutine of each of n requests panic, when all
// of them are there.
func (a *app) crashTogether(_ http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	a.mu.Lock()
	if a.arrived++; a.arrived == n {
		close(a.together)
	}
	a.mu.Unlock()
	server.Go(r.Context(), func() {
		<-a.together
		panic("all together now")
	})
}
