//go:build linux

package vault

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"

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
	case "spread":
		spread()
	case "again":
		_, err := Start()
		w.say(toKeeper{Say: "again", Error: err.Error()})
		return
	case "die":
		w.die(m.Mode)
	}
	w.say(toKeeper{Say: "done"})
}

// Where spread puts its sockets: more than there are in one answer of the vault.
const spreadFrom, spreadStep, spreadSockets = 1000, 7, 3 * maxScan / 2

// spread opens sockets with gaps between them.
func spread() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	for i := range spreadSockets {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, spreadFrom+i*spreadStep)
		check(err)
	}
	check(unix.Close(fd))
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
