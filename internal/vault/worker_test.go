//go:build linux

package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// The worker of the tests: a small HTTP/1 server written by hand, so that the
// table is kept by something else than the code it was made for. Descriptor 3 is
// the link to the keeper, 4 the listener, 5 a log of the requests that handlers
// got.

type worker struct {
	keeper  *link.Conn
	ln      *net.TCPListener
	log     *os.File
	table   *Table
	unknown bool // says Unknown for pipelined requests
	stall   bool // sleeps in the windows between two stores
}

// toWorker and toKeeper are the messages on the link.
type toWorker struct {
	Do   string
	Mode string
	RXTX [][2]uint64 // for each descriptor to adopt
}

type toKeeper struct {
	Say   string
	Vault int
	Error string
}

func workerMain() {
	keeper, err := link.New(3)
	check(err)
	l, err := net.FileListener(os.NewFile(4, "listener"))
	check(err)
	w := &worker{keeper: keeper, ln: l.(*net.TCPListener), log: os.NewFile(5, "log")}
	w.unknown = os.Getenv("VAULT_TEST_UNKNOWN") != ""
	w.stall = os.Getenv("VAULT_TEST_STALL") != ""
	if os.Getenv("VAULT_TEST_NO_NEW_PRIVS") != "" {
		runtime.LockOSThread() // the thread that clones
		check(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	}
	if os.Getenv("VAULT_TEST_OFF") == "" {
		w.startVault()
	} else {
		w.say(toKeeper{Say: "vault"})
	}
	for {
		m, err := keeper.Recv()
		if err != nil {
			os.Exit(0) // the keeper is gone
		}
		var msg toWorker
		check(json.Unmarshal(m.Data, &msg))
		w.do(msg, m.Files)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "test process:", err)
		os.Exit(99)
	}
}

func (w *worker) say(m toKeeper, files ...int) {
	b, err := json.Marshal(m)
	check(err)
	check(w.keeper.Send(b, files...))
}

func (w *worker) startVault() {
	h, err := Start()
	if err != nil {
		w.say(toKeeper{Say: "vault", Vault: h.PID, Error: err.Error()})
		return
	}
	if os.Getenv("VAULT_TEST_EARLY") != "" {
		w.say(toKeeper{Say: "early", Vault: h.PID})
		os.Exit(0)
	}
	w.table = h.Table
	w.say(toKeeper{Say: "vault", Vault: h.PID}, int(h.Sock.Fd()), int(h.Memory.Fd()))
	h.Close()
}

func (w *worker) do(m toWorker, files []int) {
	switch m.Do {
	case "adopt":
		for i, fd := range files {
			f := os.NewFile(uintptr(fd), "adopted")
			c, err := net.FileConn(f)
			check(err)
			f.Close()
			tc := c.(*net.TCPConn)
			n := descriptor(tc)
			w.table.Adopted(n, 1, m.RXTX[i][0], m.RXTX[i][1])
			go w.serve(tc, n, m.RXTX[i][0], m.RXTX[i][1])
		}
	case "serve":
		go w.accept()
	case "lock":
		w.lock(m.Mode)
	case "again":
		_, err := Start()
		w.say(toKeeper{Say: "again", Error: err.Error()})
		return
	case "die":
		w.die(m.Mode)
	}
	w.say(toKeeper{Say: "done"})
}

// lock holds what a dead worker must not keep: a locked file.
func (w *worker) lock(path string) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	check(err)
	check(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
}

func (w *worker) accept() {
	for {
		c, err := w.ln.AcceptTCP()
		if err != nil {
			return
		}
		fd := descriptor(c)
		w.table.Accepted(fd, 1)
		go w.serve(c, fd, 0, 0)
	}
}

func descriptor(c *net.TCPConn) (n int) {
	raw, err := c.SyscallConn()
	check(err)
	check(raw.Control(func(fd uintptr) { n = int(fd) }))
	return n
}

func (w *worker) die(mode string) {
	debug.SetTraceback("none")
	switch mode {
	case "exit 0":
		os.Exit(0)
	case "exit 3":
		os.Exit(3)
	case "panic":
		go panic("a panic that nobody recovers")
	case "map":
		m := map[int]int{}
		for range 4 {
			go func() {
				for i := 0; ; i++ {
					m[i&15]++
				}
			}()
		}
	case "stack":
		debug.SetMaxStack(1 << 20)
		go overflow(1)
	case "memory":
		debug.SetMemoryLimit(-1)
		check(unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
		go func() {
			for hoard := [][]byte{}; ; hoard = append(hoard, make([]byte, 64<<20)) {
			}
		}()
	default:
		n, err := strconv.Atoi(mode)
		check(err)
		syscall.Kill(os.Getpid(), syscall.Signal(n))
	}
	select {}
}

func overflow(n int) int {
	if n == 0 {
		return 0
	}
	return overflow(n+1) + 1
}

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
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
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
	time.Sleep(time.Duration(slow) * time.Millisecond)
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

// keeperMain is a keeper which starts one worker, says its pids, and waits to
// be killed.
func keeperMain() {
	l, err := listen()
	check(err)
	k, err := startWorker(l, os.Stderr, nil)
	check(err)
	fmt.Println(k.cmd.Process.Pid, k.vaultPID)
	io.Copy(io.Discard, os.Stdin)
	select {}
}

func listen() (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}
