package keeper

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watch finds out that a process is ready, where it doesn't say so itself.
//
// A process is seen to wait for connections when one of its threads, or of its
// descendants', sleeps in accept, poll, select or epoll_wait for one of our
// sockets: /proc tells the system call and its arguments. A connection of our own
// would tell less during an upgrade, as the old generation may be who accepts it,
// and it would be in the program's log. What is too busy to be found asleep counts
// once it has had the socket in an epoll set for half a second, or has a
// connection to our port.
func watch(c child, p *probe, found func(string, bool), stop <-chan struct{}) {
	w, _ := c.(*offspring)
	switch p.mode {
	case "fd":
		go watchPipe(w.probed, found)
	case "delay":
		go func() {
			if pause(p.alive, stop) {
				found("delay", false)
			}
		}()
	case "listen":
		go watchSockets(c.PID(), p, found, stop)
	case "auto":
		if !p.patient {
			go watchSockets(c.PID(), p, found, stop)
		}
	}
}

func pause(d time.Duration, stop <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}

// watchPipe waits for a newline; it ends with the process.
func watchPipe(f *os.File, found func(string, bool)) {
	if f == nil {
		return
	}
	if _, err := bufio.NewReader(f).ReadString('\n'); err == nil {
		found("fd", true)
	}
}

const (
	firstLook  = time.Millisecond
	longestGap = 50 * time.Millisecond
	busyFor    = 500 * time.Millisecond
)

func watchSockets(pid int, p *probe, found func(string, bool), stop <-chan struct{}) {
	start, gap := time.Now(), firstLook
	var registered time.Time
	for pause(gap, stop) {
		gap = min(gap*3/2, longestGap)
		l := look(pid, p.sockets)
		switch {
		case l.waits, l.others && hasAccepted(pid, p.sockets):
			found("listen", true)
			return
		case !l.registered:
			registered = time.Time{}
		case registered.IsZero():
			registered = time.Now()
		case time.Since(registered) > busyFor:
			found("listen", true)
			return
		}
		if p.mode == "auto" && time.Since(start) >= p.alive {
			found("alive", false)
			return
		}
	}
}

// sight is what was seen of a process and its descendants.
type sight struct {
	waits      bool // for a connection
	registered bool // the socket is in an epoll set
	others     bool // there are sockets that aren't ours
}

// look sees whether anybody waits for one of the sockets; without sockets of
// ours, for any listening one that they have made.
func look(pid int, sockets []*socket) sight {
	var s sight
	inodes := map[uint64]bool{}
	for _, k := range sockets {
		if k.listen != "" {
			inodes[k.inode] = true
		}
	}
	if len(inodes) == 0 {
		for _, l := range listeners() {
			inodes[l.inode] = true
		}
	}
	for _, p := range family(pid) {
		l := lookAt(p, inodes)
		s.waits, s.registered, s.others = s.waits || l.waits, s.registered || l.registered, s.others || l.others
		if s.waits {
			break
		}
	}
	return s
}

// family is a process and its descendants.
func family(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all) && i < 256; i++ {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", all[i]))
		for _, t := range tasks {
			data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", all[i], t.Name()))
			for f := range bytes.FieldsSeq(data) {
				if n, err := strconv.Atoi(string(f)); err == nil {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

// lookAt looks at one process.
func lookAt(pid int, inodes map[uint64]bool) sight {
	var s sight
	ours := map[int]bool{} // descriptors: a socket, or an epoll set with one in it
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s
	}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue
		}
		if in, ok := strings.CutPrefix(target, "socket:["); ok {
			n, _ := strconv.ParseUint(strings.TrimSuffix(in, "]"), 10, 64)
			ours[fd] = inodes[n]
			s.others = s.others || !inodes[n]
		} else if target == "anon_inode:[eventpoll]" && epollHas(pid, fd, inodes) {
			ours[fd], s.registered = true, true
		}
	}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range tasks {
		if sleepsFor(pid, t.Name(), ours) {
			s.waits = true
			break
		}
	}
	return s
}

// epollHas reads the set's entries: "tfd: 5 events: 19 data: … pos:0 ino:2f6 sdev:8".
func epollHas(pid, fd int, inodes map[uint64]bool) bool {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "tfd:") {
			continue
		}
		_, after, _ := strings.Cut(line, "ino:")
		ino, _, _ := strings.Cut(after, " ")
		if n, err := strconv.ParseUint(ino, 16, 64); err == nil && inodes[n] {
			return true
		}
	}
	return false
}

// sleepsFor reads the system call that a thread sleeps in: its number and
// arguments (proc_pid_syscall(5)).
func sleepsFor(pid int, tid string, fds map[int]bool) bool {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, tid))
	f := strings.Fields(string(data))
	if len(f) < 4 {
		return false
	}
	number, err := strconv.Atoi(f[0])
	a0, err0 := strconv.ParseUint(f[1], 0, 64)
	a1, err1 := strconv.ParseUint(f[2], 0, 64)
	if err != nil || err0 != nil || err1 != nil {
		return false
	}
	switch waitKind(number) {
	case waitsOnOne:
		return fds[int(a0)]
	case waitsInPoll:
		return pollHas(pid, a0, a1, fds)
	case waitsInSelect:
		return selectHas(pid, a0, a1, fds)
	}
	return false
}

// How a system call names the descriptors that it waits for.
const (
	waitsOnOne    = 1 + iota // in its first argument: accept, epoll_wait
	waitsInPoll              // in an array of struct pollfd
	waitsInSelect            // in a bitmap
)

func memory(pid int, at uint64, n int) []byte {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil || at > 1<<63-1 {
		return nil
	}
	defer f.Close()
	buf := make([]byte, n)
	got, _ := f.ReadAt(buf, int64(at))
	return buf[:got]
}

func pollHas(pid int, at, n uint64, fds map[int]bool) bool {
	b := memory(pid, at, 8*int(min(n, 4096)))
	for ; len(b) >= 8; b = b[8:] {
		fd, events := int(int32(binary.NativeEndian.Uint32(b))), binary.NativeEndian.Uint16(b[4:])
		if events&unix.POLLIN != 0 && fds[fd] {
			return true
		}
	}
	return false
}

func selectHas(pid int, n, at uint64, fds map[int]bool) bool {
	b := memory(pid, at, int(min(n, 1<<16)+63)/64*8)
	for fd, ours := range fds {
		word := fd / 64 * 8
		if ours && fd < int(n) && word+8 <= len(b) && binary.NativeEndian.Uint64(b[word:])&(1<<(fd%64)) != 0 {
			return true
		}
	}
	return false
}

// advise finds the sockets that a process has made itself, instead of using ours.
func advise(c child, sockets []*socket) string {
	held := map[uint64]bool{}
	for _, s := range sockets {
		held[s.inode] = true
	}
	all := listeners()
	for _, pid := range family(c.PID()) {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			target, _ := os.Readlink(dir + "/" + e.Name())
			for _, l := range all {
				if !held[l.inode] && target == fmt.Sprintf("socket:[%d]", l.inode) {
					return fmt.Sprintf("the program binds %s:%d itself, so the next generation can't: run it with --listen %s:%d, and have it take the socket that it is given (LISTEN_FDS)",
						l.addr, l.port, l.addr, l.port)
				}
			}
		}
	}
	return ""
}

// everyone lists all processes.
func everyone() []int {
	entries, _ := os.ReadDir("/proc")
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func command(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(data))
}
