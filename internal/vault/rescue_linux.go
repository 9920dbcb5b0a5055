package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rescue takes the connections of a worker that is dead, in this order:
//
//  1. all connections are fetched from the vault
//  2. the vault is killed
//  3. each connection is judged
//  4. the vault is dead: what else the worker held is released
//  5. answers are written and drained in the background
//
// It returns after the fourth step, at the latest when Options.Timeout has
// passed or ctx ends, plus what it takes a killed process to die. The worker must be
// dead, that is, waitid(2) has reported it, but needn't have been reaped. The
// Vault is used up.
func (v *Vault) Rescue(ctx context.Context, o Options) *Rescued {
	begun := time.Now()
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	r := rescue{options: o}
	r.Err = r.fetch(ctx, v)
	v.signal()
	r.judge(begun)
	v.End()
	r.Took = time.Since(begun)
	r.Settled = settle(r.endings)
	return &r.Rescued
}

type rescue struct {
	Rescued
	options Options
	conns   []fetched
	endings []*ending
}

type fetched struct {
	fd     int
	line   Line
	cookie uint64
}

func (r *rescue) fetch(ctx context.Context, v *Vault) error {
	lines, err := v.view.Lines()
	if err != nil {
		return err
	}
	r.Counts.Lost = len(lines)
	if err := r.take(ctx, v.client, lines); err != nil {
		return fmt.Errorf("fetch from the vault: %w", err)
	}
	unmarked, err := r.unmarked(ctx, v, lines)
	if err != nil {
		return fmt.Errorf("scan the vault: %w", err)
	}
	r.Counts.Lost += len(unmarked)
	return r.take(ctx, v.client, unmarked)
}

// take fetches what lines say. They have been counted as lost before.
func (r *rescue) take(ctx context.Context, c *client, lines []Line) error {
	fds := make([]int32, len(lines))
	for i, l := range lines {
		fds[i] = int32(l.FD)
	}
	room := room()
	var lost error
	err := c.fetch(ctx, fds, func(i, fd int) {
		if fd >= room {
			unix.Close(fd)
			lost = unix.EMFILE
			return
		}
		r.Counts.Lost--
		r.conns = append(r.conns, fetched{fd: fd, line: lines[i]})
	}, func(i int, err error) {
		if errors.Is(err, unix.EBADF) { // accepted or closed in this moment
			r.Counts.Lost--
			return
		}
		lost = err
	})
	return errors.Join(err, lost)
}

// room returns the first descriptor that a rescue must not use: a keeper that
// has none left can't start the next worker.
func room() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil || lim.Cur > 1<<30 {
		return 1 << 30
	}
	return int(lim.Cur - lim.Cur/8)
}

// unmarked finds sockets that have no line: some were being accepted.
func (r *rescue) unmarked(ctx context.Context, v *Vault, lines []Line) ([]Line, error) {
	if len(r.options.Listen)+len(r.options.Others) == 0 {
		return nil, nil
	}
	marked := make(map[int]bool, len(lines))
	for _, l := range lines {
		marked[l.FD] = true
	}
	var free []Line
	err := v.client.scan(ctx, v.descriptors(), v.open(), func(fd int) {
		if !marked[fd] {
			free = append(free, Line{FD: fd})
		}
	})
	return free, err
}

// descriptors returns a number which all descriptors of the vault are below.
func (v *Vault) descriptors() int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
	if n := statusField(status, "FDSize:"); n > 0 {
		return n
	}
	return v.view.lines
}

// open returns how many descriptors the vault has; 0: this kernel doesn't tell, as
// Linux does from 6.2 on (Documentation/filesystems/proc.rst, 3.9).
func (v *Vault) open() int {
	st, err := os.Stat(fmt.Sprintf("/proc/%d/fd", v.pid))
	if err != nil {
		return 0
	}
	return int(st.Size())
}

func (r *rescue) judge(now time.Time) {
	pages := pages{page: r.options.Page, now: now}
	for _, f := range r.unique() {
		conn, j := r.judgment(f)
		if f.line.State == Claimed || f.line.State == Free && j.Verdict == Leave {
			r.Claimed = append(r.Claimed, conn)
			continue
		}
		r.Counts.Add(j.Verdict)
		if j.Verdict != notOurs && j.Verdict != Idle && j.Verdict != Done && j.Verdict != Leave {
			r.Ended = append(r.Ended, conn.Cookie)
		}
		switch j.Verdict {
		case Idle, Done:
			r.Idle = append(r.Idle, conn)
		case Leave:
			r.Sent = append(r.Sent, conn)
		case Drop, notOurs:
			unix.Close(f.fd)
		case Answer500:
			r.end(f.fd, pages.get(http.StatusInternalServerError, j.Kind))
		case Answer503:
			r.end(f.fd, pages.get(http.StatusServiceUnavailable, j.Kind))
		default:
			r.end(f.fd, nil)
		}
	}
	r.conns = nil
}

// unique leaves one descriptor of each connection: the first, as those that the
// worker has marked come first. A worker has a second one for a moment when it
// makes a net.Conn of a bare descriptor.
func (r *rescue) unique() []fetched {
	seen := make(map[uint64]bool, len(r.conns))
	once := r.conns[:0]
	for _, f := range r.conns {
		var err error
		if f.cookie, err = cookie(f.fd); err == nil && seen[f.cookie] {
			unix.Close(f.fd)
			continue
		}
		seen[f.cookie] = err == nil
		once = append(once, f)
	}
	return once
}

// notOurs is closed plainly: an outgoing connection of the worker, or one that was
// accepted and is not in the table, and yet bytes have passed. That one was about
// to be closed, or has come from another process which the worker had not told
// that it takes it, or has gone to another one.
const notOurs Verdict = -1

func (r *rescue) judgment(f fetched) (Conn, Judgment) {
	conn := Conn{FD: f.fd, Server: f.line.Server, Marked: f.line.State != Free, Cookie: f.cookie}
	conn.Local = localAddress(f.fd)
	switch {
	case conn.Marked || has(r.options.Listen, conn.Local):
	case has(r.options.Others, conn.Local):
		return conn, Judgment{Verdict: Close}
	default:
		return conn, Judgment{Verdict: notOurs}
	}
	counters, err := Inspect(f.fd)
	if err != nil && f.line.State != Sent && f.line.State != Claimed {
		return conn, Judgment{Verdict: Close}
	}
	if !conn.Marked && err == nil && counters.Consumed+counters.Written > 0 {
		return conn, Judgment{Verdict: notOurs}
	}
	j := Classify(f.line, counters)
	switch {
	case j.Verdict == Leave:
		conn.Taken = f.line.taken(counters)
		f.line.State, f.line.ReqEnd = HTTP1, 0
		conn.Else = Classify(f.line, counters)
	case !conn.Marked && r.options.Doubt:
		conn.Else, j = j, Judgment{Verdict: Leave}
	}
	if j.Skip > 0 && !discard(f.fd, j.Skip) {
		j.Verdict = Ended
	}
	if r.options.NoIdle && (j.Verdict == Idle || j.Verdict == Done) {
		j.Verdict = Ended
	}
	conn.Quiet, conn.Waits = counters.Quiet, counters.Unread > j.Skip
	conn.RX, conn.TX = counters.Consumed+j.Skip, counters.Written
	return conn, j
}

// has reports whether one of the listening addresses is that of a connection.
func has(listen []netip.AddrPort, local netip.AddrPort) bool {
	for _, l := range listen {
		if l.Port() == local.Port() && (l.Addr().IsUnspecified() || l.Addr().Unmap() == local.Addr()) {
			return true
		}
	}
	return false
}

func (r *rescue) end(fd int, answer []byte) {
	r.endings = append(r.endings, &ending{fd: fd, left: answer})
}

// discard reads n bytes that have arrived, and throws them away.
func discard(fd int, n uint64) bool {
	var scratch [4096]byte
	for n > 0 {
		got, err := unix.Read(fd, scratch[:min(n, uint64(len(scratch)))])
		if err != nil || got == 0 {
			return false
		}
		n -= uint64(got)
	}
	return true
}

// localAddress returns the zero AddrPort for what isn't IP. unix.Getsockname
// costs three times as much, and this is done for thousands.
func localAddress(fd int) netip.AddrPort {
	var sa unix.RawSockaddrInet6 // has room for an Inet4
	size := uint32(unsafe.Sizeof(sa))
	_, _, errno := unix.Syscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	switch sa.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port)
	}
	return netip.AddrPort{}
}

// pages renders each variant of the answer once.
type pages struct {
	page *Page
	now  time.Time
	done map[variant][]byte
}

type variant struct {
	status int
	kind   Kind
}

func (p *pages) get(status int, k Kind) []byte {
	v := variant{status, k}
	if p.done == nil {
		p.done = make(map[variant][]byte)
	}
	if p.done[v] == nil {
		p.done[v] = p.page.Render(status, k, p.now)
	}
	return p.done[v]
}

// statusField reads a number out of /proc/PID/status.
func statusField(status []byte, name string) int {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			n, _ := strconv.Atoi(string(bytes.TrimSpace(rest)))
			return n
		}
	}
	return 0
}
