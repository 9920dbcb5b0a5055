// Package demo is the application of cmd/demo and `tablecloth demo`: handlers
// that know nothing of upgrades, and ways to break them.
package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/server"
)

// App answers requests. Its fields are set before it serves.
type App struct {
	Version    string
	Generation int
}

// Handler has all routes. Every answer says which generation and process made
// it, and repeats the request's X-Request-Id.
func (a *App) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", a.index)
	mux.HandleFunc("/pid", pid)
	mux.HandleFunc("POST /echo", strict.EchoBody)
	mux.HandleFunc("GET /slow", slow)
	mux.HandleFunc("GET /long", strict.EchoBytes)
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("handler panic") })
	mux.HandleFunc("GET /asyncerror", asyncError)
	mux.HandleFunc("GET /fatal", fatal)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("X-Request-Id"); id != "" {
			w.Header().Set("X-Request-Id", id)
		}
		w.Header().Set("X-Generation", strconv.Itoa(a.Generation))
		w.Header().Set("X-Pid", strconv.Itoa(os.Getpid()))
		mux.ServeHTTP(w, r)
	})
}

func (a *App) index(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "url": r.URL.String(), "headers": r.Header,
		"Connection": w.Header().Get("Connection"),
		"pid":        os.Getpid(), "generation": a.Generation, "version": a.Version,
	})
}

func pid(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getpid()) }

func slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.ParseUint(r.FormValue("ms"), 10, 32)
	if err != nil {
		http.Error(w, "how long? /slow?ms=500", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		fmt.Fprintf(w, "%d ms later: pid %d\n", ms, os.Getpid())
	case <-r.Context().Done():
	}
}

// asyncError panics where no recover of net/http's would see it.
func asyncError(_ http.ResponseWriter, r *http.Request) {
	server.Go(r.Context(), func() {
		time.Sleep(10 * time.Millisecond)
		panic("async error")
	})
}

// fatal ends the process: no recover catches an error of the runtime's own.
func fatal(http.ResponseWriter, *http.Request) { new(sync.Mutex).Unlock() }
