// Command tcp serves a protocol of its own: each line that comes is sent back.
// When this process has a successor it says so, in a line that begins with "!",
// and answers what still comes until the client has gone.
package main

import (
	"bufio"
	"context"
	"flag"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/server"
)

// grace is how long a client may take to follow the request to reconnect.
const grace = 5 * time.Second

func main() {
	listen := flag.String("listen", "127.0.0.1:7007", "`address` to serve on")
	pidfile := flag.String("pidfile", "", "`file` for the PID of the process that serves")
	flag.Parse()

	err := server.Run(context.Background(), server.Options{PIDFile: *pidfile}, server.Conns("echo", echo, *listen))
	if err != nil {
		log.Fatal(err)
	}
}

// echo serves one connection, and is done when the client has closed it. ctx ends
// when the drain begins.
func echo(ctx context.Context, c net.Conn) {
	var writing sync.Mutex
	defer context.AfterFunc(ctx, func() {
		writing.Lock()
		defer writing.Unlock()
		io.WriteString(c, "!please connect anew\n")
		c.SetReadDeadline(time.Now().Add(grace))
	})()
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		writing.Lock()
		_, err = io.WriteString(c, line)
		writing.Unlock()
		if err != nil {
			return
		}
	}
}
