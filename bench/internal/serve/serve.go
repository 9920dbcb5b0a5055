// Package serve has the measured Go programs: the same service, replaced in
// different ways, each as the documentation of its library says.
package serve

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// Options of a program.
type Options struct {
	Addr    string
	Counter string // path of the file that numbers generations
}

// DrainTime bounds the end of a replaced process. The same for all.
const DrainTime = 5 * time.Second

var programs = map[string]func(Options) error{
	"plain":      plain,
	"tableflip":  flipped,
	"overseer":   overseen,
	"grace":      graced,
	"endless":    endlessly,
	"starter":    started,
	"stored":     stored,
	"tablecloth": clothed,
}

// Names lists the programs.
func Names() []string { return slices.Sorted(maps.Keys(programs)) }

// Run is the whole life of one process of the program.
func Run(name string, o Options) error {
	p, ok := programs[name]
	if !ok {
		return fmt.Errorf("no program %q, there are %v", name, Names())
	}
	return p(o)
}

// spawn starts a goroutine on behalf of a request.
type spawn func(context.Context, func())

func bare(_ context.Context, f func()) { go f() }

// handler is the service of a new generation.
func (o Options) handler(s spawn) (http.Handler, error) {
	g, err := NextGeneration(o.Counter)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", strict.Handler(g))
	mux.HandleFunc("GET /panic", func(w http.ResponseWriter, r *http.Request) {
		s(r.Context(), func() { panic("nobody recovers this") })
		// The answer mustn't overtake the panic.
		time.Sleep(time.Second)
		fmt.Fprintln(w, os.Getpid())
	})
	return mux, nil
}

func (o Options) server(s spawn) (*http.Server, error) {
	h, err := o.handler(s)
	return &http.Server{Addr: o.Addr, Handler: h}, err
}

// shutdown is net/http's own drain.
func shutdown(hs *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), DrainTime)
	defer cancel()
	return hs.Shutdown(ctx)
}
