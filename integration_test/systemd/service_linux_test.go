package systemd

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/server"
)

// roleService is the service under test.
const roleService = "service"

// Settings of the service, in the environment of its unit.
const (
	envAddr    = "SERVICE_ADDR"
	envPIDFile = "SERVICE_PIDFILE"
	envFiles   = "SERVICE_DIR" // see the files
)

// Files in the service's directory, by which a test tells the next generation
// what to do.
const (
	fileFail  = "fail"  // before it is ready
	fileDelay = "delay" // how long it takes until it is ready
	fileLines = "lines" // print a numbered line every so often

	fileRelease = "release" // what is under way shall end
)

const failStatus = 7

func serve() int {
	log := logrus.New()
	log.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true})
	if told(fileFail) != "" {
		log.Error("the configuration is broken")
		return failStatus
	}
	var handler http.Handler // made when the generation is known
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) })}
	s, err := server.New(server.Options{
		PIDFile:      os.Getenv(envPIDFile),
		ReadyTimeout: 30 * time.Second,
		KillTimeout:  killTimeout,
		StopTimeout:  stopTimeout,
		Log:          log,
	}, server.HTTP("web", web, os.Getenv(envAddr)))
	if err != nil {
		log.Error(err)
		return 1
	}
	generation := s.Upgrader().Generation()
	handler = routes(generation)
	if d, err := time.ParseDuration(told(fileDelay)); err == nil {
		proctest.Pace(d)
	}
	counted := countLines(generation)
	err = s.Run(context.Background())
	counted()
	if err != nil {
		log.Error(err)
		return 1
	}
	return 0
}

// routes are those of strict clients, one whose answer begins at once and ends after
// the time that the client asked for, or when all are released, and one which gives
// none.
func routes(generation int) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", strict.Handler(generation))
	mux.Handle("GET /begun", strict.Stamp(generation, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.FormValue("for"))
		http.NewResponseController(w).Flush()
		over := time.After(d)
		for {
			select {
			case <-time.After(5 * time.Millisecond):
				if told(fileRelease) == "" {
					continue
				}
			case <-over:
			case <-r.Context().Done():
				return
			}
			fmt.Fprint(w, "complete")
			return
		}
	})))
	mux.Handle("GET /hang", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints) // it has been given to this process
		<-r.Context().Done()
	}))
	return mux
}

// Timeouts of the service. Whoever asks for more than KillTimeout is cut.
const (
	killTimeout = 20 * time.Second
	stopTimeout = 8 * time.Second
)

func told(file string) string {
	b, _ := os.ReadFile(filepath.Join(os.Getenv(envFiles), file))
	return strings.TrimSpace(string(b))
}

// countLines prints numbered lines, and in the end how many there were.
func countLines(generation int) (end func()) {
	every, err := time.ParseDuration(told(fileLines))
	if err != nil {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 1; ; n++ {
			fmt.Printf("line %d of generation %d\n", n, generation)
			select {
			case <-time.After(every):
			case <-stop:
				fmt.Printf("end %d of generation %d\n", n, generation)
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}
