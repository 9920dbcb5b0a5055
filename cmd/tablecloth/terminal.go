package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// output is the standard output, and remembers what went wrong with it.
type output struct {
	file *os.File

	mu  sync.Mutex
	err error // of the first write that failed
}

func (o *output) Fd() uintptr { return o.file.Fd() }

func (o *output) Write(b []byte) (int, error) {
	n, err := o.file.Write(b)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = err
		}
	}
	return n, err
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// descriptor is what files have, and output.
type descriptor interface{ Fd() uintptr }

func isTerminal(w any) bool {
	f, ok := w.(descriptor)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalSize is how much fits on a terminal; 80×24 of what is none.
func terminalSize(w any) (columns, lines int) {
	if f, ok := w.(descriptor); ok {
		if c, l, err := term.GetSize(int(f.Fd())); err == nil && c > 0 && l > 0 {
			return c, l
		}
	}
	return 80, 24
}

// palette colours words, or leaves them alone.
type palette bool

// paletteFor follows https://no-color.org.
func paletteFor(w io.Writer) palette {
	return palette(isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func (p palette) paint(code, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p palette) good(s string) string { return p.paint("32", s) }
func (p palette) busy(s string) string { return p.paint("33", s) }
func (p palette) bad(s string) string  { return p.paint("31", s) }
func (p palette) faint(s string) string {
	return p.paint("2", s)
}

// progress shows on a terminal that a command waits, for what and since when.
type progress struct {
	w    io.Writer
	stop chan struct{}
	done sync.WaitGroup
	once sync.Once
}

// showProgress writes to w only if it is a terminal. Call end before anything
// else is written.
func showProgress(w io.Writer, what string) *progress {
	p := &progress{w: w, stop: make(chan struct{})}
	if !isTerminal(w) || os.Getenv("TERM") == "dumb" {
		return p
	}
	p.done.Go(func() { p.run(what) })
	return p
}

func (p *progress) run(what string) {
	start := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			fmt.Fprint(p.w, "\r\x1b[K")
			return
		case <-tick.C:
			fmt.Fprintf(p.w, "\r\x1b[K%s … %.1fs", what, time.Since(start).Seconds())
		}
	}
}

func (p *progress) end() {
	p.once.Do(func() { close(p.stop) })
	p.done.Wait()
}
