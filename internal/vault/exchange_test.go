//go:build linux

package vault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// exchange is one connection. buf has what was read and not used.
type exchange struct {
	*worker
	c      *net.TCPConn
	fd     int
	rx, tx uint64
	buf    []byte
	resp   Response
}

func (w *worker) serve(c *net.TCPConn, fd int, rx, tx uint64) {
	x := &exchange{worker: w, c: c, fd: fd, rx: rx, tx: tx}
	for x.one() {
		x.pause()
		if len(x.buf) > 0 && w.unknown {
			w.table.Unknown(fd, x.tx)
		} else {
			w.table.Boundary(fd, x.rx-uint64(len(x.buf)), x.tx)
		}
	}
	w.table.Close(fd)
	x.pause()
	c.Close()
}

// pause makes the windows between two stores wide enough to be hit.
func (x *exchange) pause() {
	if x.stall && rand.IntN(4) == 0 {
		proctest.Pace(time.Duration(rand.IntN(2000)) * time.Microsecond)
	}
}

func (x *exchange) read() bool {
	b := make([]byte, 4096)
	n, err := x.c.Read(b)
	x.rx += uint64(n)
	x.buf = append(x.buf, b[:n]...)
	return err == nil
}

func (x *exchange) one() bool {
	base := x.rx - uint64(len(x.buf))
	known := Kind(0)
	var req Request
	for {
		if k := RequestKind(x.buf); k != known {
			known = k
			x.table.Begun(x.fd, k)
		}
		if req = ParseRequest(x.buf); req.Head > 0 {
			break
		}
		x.pause()
		if !x.read() {
			return false
		}
	}
	head := string(x.buf[:req.Head])
	body := bytes.Clone(x.buf[req.Head:])
	end := req.End
	if end > 0 {
		end += base
	}
	x.pause()
	x.table.Active(x.fd, end, req.Kind)
	x.buf = x.buf[req.Head:]
	target, query, _ := strings.Cut(strings.Fields(head)[1], "?")
	id := strings.TrimPrefix(target, "/")
	fmt.Fprintln(x.log, id)
	args := map[string]string{}
	for kv := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(kv, "=")
		args[k] = v
	}
	size, _ := strconv.Atoi(args["size"])
	slow, _ := strconv.Atoi(args["slow"])
	if args["late"] == "" && !x.body(req, base, body) {
		return false
	}
	proctest.Pace(time.Duration(slow) * time.Millisecond)
	x.resp.Begin(req.Kind)
	if args["interim"] != "" && !x.write([]byte("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n")) {
		return false
	}
	if !x.respond(id, args["mode"], size, req.Kind) {
		return false
	}
	if args["late"] != "" && !x.body(req, base, body) {
		return false
	}
	return args["mode"] != "close"
}

// body reads the request's body. rest is what of it came with the head.
func (x *exchange) body(req Request, base uint64, rest []byte) bool {
	if !req.Chunked {
		want := int(req.End - req.Head)
		for len(x.buf) < want {
			x.pause()
			if !x.read() {
				return false
			}
		}
		x.buf = x.buf[want:]
		return true
	}
	var c Chunks
	seen := base + req.Head
	for at := 0; ; {
		n, found := c.Scan(x.buf[at:])
		if found {
			seen += uint64(at + n)
			x.table.RequestEnd(x.fd, seen)
			x.buf = x.buf[at+n:]
			return true
		}
		at = len(x.buf)
		if !x.read() {
			return false
		}
	}
}

func (x *exchange) respond(id, mode string, size int, k Kind) bool {
	head := "HTTP/1.1 200 OK\r\nX-Id: " + id + "\r\n"
	body := bodyOf(id, size)
	if k&Head != 0 {
		body = nil
	}
	switch mode {
	case "204":
		return x.write([]byte(strings.Replace(head, "200 OK", "204 No Content", 1) + "\r\n"))
	case "chunked":
		out := []byte(head + "Transfer-Encoding: CHUNKED\r\n\r\n")
		for len(body) > 0 {
			n := 1 + rand.IntN(len(body))
			out = fmt.Appendf(out, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
			if rand.IntN(2) == 0 {
				if !x.write(out) {
					return false
				}
				out = nil
			}
		}
		if k&Head == 0 {
			out = append(out, "0\r\nTrailer: t\r\n\r\n"...)
		}
		return x.write(out)
	case "close":
		head += "Connection: close\r\n"
	}
	out := append([]byte(head+"Content-length: "+strconv.Itoa(size)+"\r\n\r\n"), body...)
	for len(out) > 0 {
		n := len(out)
		if rand.IntN(2) == 0 {
			n = 1 + rand.IntN(n)
		}
		if !x.write(out[:n]) {
			return false
		}
		out = out[n:]
	}
	return true
}

func (x *exchange) write(p []byte) bool {
	switch m := x.resp.Write(p); {
	case m.End == 0:
	case m.Interim:
		x.table.Interim(x.fd, x.tx+m.End)
	case m.Last:
		x.table.Last(x.fd, x.tx+m.End)
	default:
		x.table.Response(x.fd, x.tx+m.End)
	}
	x.pause()
	n, err := x.c.Write(p)
	x.tx += uint64(n)
	x.pause()
	return err == nil
}

// bodyOf is the body of a response, which the client knows as well.
func bodyOf(id string, size int) []byte {
	if size == 0 {
		return nil
	}
	unit := []byte(id + "0\r\n\r\n") // what looks like the end of a chunked body isn't
	return bytes.Repeat(unit, size/len(unit)+1)[:size]
}
