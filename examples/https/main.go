// Command https is an HTTPS service with HTTP/2. Its connections can't move to
// another process: the old one tells their clients to come back, by a GOAWAY or
// "Connection: close", and they find the new one.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/tablecloth-go/tablecloth/server"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8443", "`address` to serve on")
	cert := flag.String("cert", "cert.pem", "`file` of the certificate, which each generation reads anew")
	key := flag.String("key", "key.pem", "`file` of its key")
	pidfile := flag.String("pidfile", "", "`file` for the PID of the process that serves")
	flag.Parse()

	echo := func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }
	web := &http.Server{Addr: *listen, Handler: http.HandlerFunc(echo), ReadHeaderTimeout: 5 * time.Second}
	err := server.Run(context.Background(), server.Options{PIDFile: *pidfile}, server.HTTPS("web", web, *cert, *key))
	if err != nil {
		log.Fatal(err)
	}
}
