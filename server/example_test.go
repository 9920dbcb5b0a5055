package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/tablecloth-go/tablecloth/server"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

// Two HTTP servers in one process. SIGHUP replaces it, SIGTERM stops it.
func Example() {
	web := &http.Server{Addr: ":8080", Handler: http.FileServer(http.Dir("/srv/www")), ReadHeaderTimeout: 5 * time.Second}
	admin := &http.Server{Addr: "127.0.0.1:8081"}
	err := server.Run(context.Background(), server.Options{
		PIDFile: "/run/app/app.pid",
		OnCrash: func(_ context.Context, c server.Crash) { log.Printf("crash %d: %v", c.Count, c.Err) },
	}, server.HTTP("web", web), server.HTTP("admin", admin))
	switch {
	case errors.Is(err, server.ErrCrashed): // the next generation serves
		log.Fatal(err)
	case err != nil:
		log.Fatalf("can't serve: %v", err)
	}
}

// A test runs the real thing without forks or signals.
func ExampleNew() {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
	s, err := server.New(server.Options{Upgrader: upgrader.Plain(), Log: upgrader.Discard},
		server.HTTP("web", &http.Server{Handler: hello}, "127.0.0.1:0"))
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()

	res, err := http.Get("http://" + s.Addr("web").String())
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Println(res.Status, string(body))
	stop()
	fmt.Println(<-done)
	// Output:
	// 200 OK hello
	// <nil>
}

// An echo server on TCP and on a unix socket, which says good-bye.
func ExampleConns() {
	echo := func(ctx context.Context, c net.Conn) {
		defer context.AfterFunc(ctx, func() {
			fmt.Fprintln(c, "this generation ends, please connect anew")
			c.SetReadDeadline(time.Now().Add(time.Second))
		})()
		io.Copy(c, c)
	}
	err := server.Run(context.Background(), server.Options{}, server.Conns("echo", echo, ":7", "unix:/run/echo.sock"))
	if err != nil {
		log.Fatal(err)
	}
}

// rpc stands for *grpc.Server, which can be passed as it is.
type rpc struct{ http.Server }

func (s *rpc) GracefulStop() { s.Shutdown(context.Background()) }
func (s *rpc) Stop()         { s.Close() }

func ExampleGRPC() {
	s := &rpc{} // grpc.NewServer()
	if err := server.Run(context.Background(), server.Options{}, server.GRPC("api", s, ":9090")); err != nil {
		log.Fatal(err)
	}
}

// Server-sent events end when the drain starts; the browser connects anew, to
// the next generation.
func ExampleDraining() {
	events := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				fmt.Fprintf(w, "data: %v\n\n", now)
				http.NewResponseController(w).Flush()
			case <-server.Draining(r.Context()):
				fmt.Fprint(w, "retry: 0\n\n")
				return
			case <-r.Context().Done():
				return
			}
		}
	}
	web := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(events)}
	if err := server.Run(context.Background(), server.Options{}, server.HTTP("web", web)); err != nil {
		log.Fatal(err)
	}
}

// A goroutine of a request: should it panic, the request gets a 500, and this
// process a successor.
func ExampleGo() {
	handler := func(w http.ResponseWriter, r *http.Request) {
		result := make(chan string, 1)
		server.Go(r.Context(), func() { result <- compute() })
		select {
		case s := <-result:
			fmt.Fprint(w, s)
		case <-r.Context().Done():
		}
	}
	http.HandleFunc("/compute", handler)
}

func compute() string { return "42" }
