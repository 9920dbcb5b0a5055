package server_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/server"
)

// HTTPS with HTTP/2. Each generation reads the certificate anew: an upgrade is how
// a renewed one is taken up. Connections stay with their generation, and are told
// to come back.
func ExampleHTTPS() {
	web := &http.Server{Addr: ":443", ReadHeaderTimeout: 5 * time.Second}
	redirect := &http.Server{Addr: ":80", Handler: http.RedirectHandler("https://www.example.org/", http.StatusMovedPermanently)}
	err := server.Run(context.Background(), server.Options{},
		server.HTTPS("web", web, "/etc/app/cert.pem", "/etc/app/key.pem"),
		server.HTTP("redirect", redirect))
	if err != nil {
		log.Fatal(err)
	}
}

// A protocol of one's own, whose handler ends between two commands when the drain
// begins.
func ExampleConns_commands() {
	serve := func(ctx context.Context, c net.Conn) {
		// The reader, which waits for the next command, is woken.
		defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
		commands := bufio.NewScanner(c)
		for ctx.Err() == nil && commands.Scan() {
			io.WriteString(c, strings.ToUpper(commands.Text())+"\n")
		}
	}
	if err := server.Run(context.Background(), server.Options{}, server.Conns("commands", serve, ":7000")); err != nil {
		log.Fatal(err)
	}
}

// A websocket, or whatever else a handler has hijacked, stays in its process until
// it ends: Draining says when to ask its client to come back. (The example of the
// examples' module does so with a library for websockets.)
func ExampleDraining_hijacked() {
	chat := func(w http.ResponseWriter, r *http.Request) {
		draining := server.Draining(r.Context())
		c, stream, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, "this can't be upgraded", http.StatusHTTPVersionNotSupported)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
		ended := make(chan struct{})
		defer close(ended)
		go func() {
			select {
			case <-draining:
				io.WriteString(c, "please connect anew\n")
				c.SetReadDeadline(time.Now().Add(5 * time.Second))
			case <-ended:
			}
		}()
		io.Copy(c, stream)
	}
	web := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(chat)}
	if err := server.Run(context.Background(), server.Options{}, server.HTTP("web", web)); err != nil {
		log.Fatal(err)
	}
}

// Any other server that takes a listener.
func ExampleCustom() {
	other := &http.Server{} // stands for it
	err := server.Run(context.Background(), server.Options{},
		server.Custom("other", other.Serve, other.Shutdown, ":9000", "unix:/run/app/other.sock"))
	if err != nil {
		log.Fatal(err)
	}
}
