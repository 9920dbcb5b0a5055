// Command sse sends server-sent events. A stream ends when the drain of its
// process begins; the browser comes back with Last-Event-ID, finds the next
// generation, and misses nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"time"

	"github.com/tablecloth-go/tablecloth/server"
)

// every is the time between two events. Their numbers are those of the clock, so
// that every process means the same by them; an application has a log or a
// database for that.
const every = 20 * time.Millisecond

func main() {
	listen := flag.String("listen", "127.0.0.1:8081", "`address` to serve on")
	pidfile := flag.String("pidfile", "", "`file` for the PID of the process that serves")
	flag.Parse()

	web := &http.Server{Addr: *listen, Handler: http.HandlerFunc(events), ReadHeaderTimeout: 5 * time.Second}
	if err := server.Run(context.Background(), server.Options{PIDFile: *pidfile}, server.HTTP("web", web)); err != nil {
		log.Fatal(err)
	}
}

func events(w http.ResponseWriter, r *http.Request) {
	next := now()
	if last, err := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		next = max(last+1, next-1000) // no more than what a server would have kept
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 50\n\n") // how long the browser waits before it comes back: milliseconds
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for ; next <= now(); next++ {
			fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", next, next)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-server.Draining(r.Context()):
			return
		case <-r.Context().Done():
			return
		}
	}
}

func now() int64 { return time.Now().UnixNano() / int64(every) }
