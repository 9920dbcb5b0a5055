package keeper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// acks hears what workers say by einhorn's protocol: one message a line, of which
// the only one that matters is the ack that a worker is ready. Its clients write
// it as JSON, or as YAML with % and line feeds escaped.
type acks struct {
	listener *net.UnixListener
	dir      string // to be removed in the end
}

const (
	ackTime  = 10 * time.Second
	ackBytes = 4 << 10
)

// listenAcks makes einhorn's command socket. Everybody can connect, whatever user
// a worker has; who does is known by its credentials.
func listenAcks() (*acks, error) {
	sweepAcks()
	dir, err := os.MkdirTemp("", "tablecloth-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "einhorn")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return &acks{ln, dir}, nil
}

// sweepAcks removes what keepers of this user that were killed have left.
func sweepAcks() {
	all, _ := filepath.Glob(filepath.Join(os.TempDir(), "tablecloth-*", "einhorn"))
	for _, path := range all {
		if fi, err := os.Stat(path); err != nil || time.Since(fi.ModTime()) < time.Minute { // it may be about to be listened on
			continue
		}
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			os.RemoveAll(filepath.Dir(path))
		}
	}
}

func (k *acks) path() string { return k.listener.Addr().String() }

func (k *acks) close() {
	k.listener.Close()
	os.RemoveAll(k.dir)
}

func (k *acks) serve(a *actor) {
	for {
		c, err := k.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause) // no descriptors left, say
			continue
		}
		go a.hearAck(c)
	}
}

// hearAck closes the connection after an ack, as einhorn does: some clients never
// do.
func (a *actor) hearAck(c *net.UnixConn) {
	defer c.Close()
	who := peerOf(c) // before it is heard: it may have no more to do
	c.SetDeadline(time.Now().Add(ackTime))
	line, err := bufio.NewReader(io.LimitReader(c, ackBytes)).ReadString('\n')
	if err != nil {
		return
	}
	named, ok := parseAck(line)
	if !ok {
		return
	}
	acked := func(s *service, p *process) bool {
		if p.conf.Foreign == Off {
			return false
		}
		p.einhorn = true
		s.ready(p, "einhorn", true)
		return true
	}
	if !a.meet(who, acked) && who.may(named) { // it has ended before it was known
		a.meet(peer{pids: []int{named}}, acked)
	}
}

var ackedPID = regexp.MustCompile(`\bpid"?\s*:\s*(\d+)`)

// parseAck returns the PID that an ack is for; 0: it doesn't say.
func parseAck(line string) (pid int, ok bool) {
	if plain, err := url.PathUnescape(line); err == nil {
		line = plain
	}
	if m := ackedPID.FindStringSubmatch(line); m != nil {
		pid, _ = strconv.Atoi(m[1])
	}
	return pid, strings.Contains(line, "worker:ack")
}

// may reports whether a peer can speak for a process: it could do with it what it
// likes anyway.
func (p peer) may(pid int) bool {
	fi, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return false
	}
	owner, ok := fi.Sys().(*syscall.Stat_t)
	return ok && (p.uid == 0 || p.uid == owner.Uid)
}
