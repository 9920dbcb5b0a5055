// Command websocket sends each message back. A websocket can't move to another
// process: when this one drains it asks for a new connection in a message of the
// application's own, answers what still comes, and closes with 1012 (service
// restart) what stays too long.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/tablecloth-go/tablecloth/server"
)

const (
	comeBack = "!please connect anew"
	grace    = 5 * time.Second
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8082", "`address` to serve on")
	pidfile := flag.String("pidfile", "", "`file` for the PID of the process that serves")
	flag.Parse()

	web := &http.Server{Addr: *listen, Handler: http.HandlerFunc(echo), ReadHeaderTimeout: 5 * time.Second}
	if err := server.Run(context.Background(), server.Options{PIDFile: *pidfile}, server.HTTP("web", web)); err != nil {
		log.Fatal(err)
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx := r.Context() // ends with this handler
	go leave(ctx, c)
	for {
		kind, message, err := c.Read(ctx)
		if err != nil {
			return
		}
		if err := c.Write(ctx, kind, message); err != nil {
			return
		}
	}
}

// leave asks the client to go when the drain begins.
func leave(ctx context.Context, c *websocket.Conn) {
	select {
	case <-server.Draining(ctx):
	case <-ctx.Done():
		return
	}
	if err := c.Write(ctx, websocket.MessageText, []byte(comeBack)); err != nil {
		return
	}
	select {
	case <-time.After(grace):
		c.Close(websocket.StatusServiceRestart, "service restart")
	case <-ctx.Done():
	}
}
