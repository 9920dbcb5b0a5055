// Command http is an HTTP service: kill -HUP replaces it, and its clients keep
// their connections.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/tablecloth-go/tablecloth/server"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "`address` to serve on")
	pidfile := flag.String("pidfile", "", "`file` for the PID of the process that serves")
	flag.Parse()

	web := &http.Server{Addr: *listen, Handler: app(), ReadHeaderTimeout: 5 * time.Second}
	if err := server.Run(context.Background(), server.Options{PIDFile: *pidfile}, server.HTTP("web", web)); err != nil {
		log.Fatal(err)
	}
}

func app() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("GET /sum", sum)
	return mux
}

// sum computes in a goroutine of the request: a panic there gives this request a
// 500, and the service a fresh process. /sum?a=1&b=x shows it.
func sum(w http.ResponseWriter, r *http.Request) {
	total := make(chan int, 1)
	server.Go(r.Context(), func() {
		var a, b int
		if _, err := fmt.Sscan(r.FormValue("a")+" "+r.FormValue("b"), &a, &b); err != nil {
			panic(err)
		}
		total <- a + b
	})
	select {
	case n := <-total:
		fmt.Fprintln(w, n)
	case <-r.Context().Done():
	}
}
