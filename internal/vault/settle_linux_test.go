package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// end gives a duplicate of conn to settle, as a rescue would, and closes conn.
func end(t *testing.T, conn *net.TCPConn, answer []byte) <-chan struct{} {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(descriptor(conn)), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	must(t, conn.Close())
	return settle([]*ending{{fd: fd, left: answer}})
}

func TestAnswerArrivesAlthoughBytesAreUnread(t *testing.T) {
	peer, ours := pair(t)
	_, err := peer.Write(make([]byte, 20000))
	must(t, err)
	settled := end(t, ours, []byte("answer"))
	got, err := io.ReadAll(peer)
	if string(got) != "answer" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	// Still sending, as one does that didn't expect an answer so early.
	_, err = peer.Write(make([]byte, 200000))
	must(t, err)
	must(t, peer.CloseWrite())
	<-settled
}

func TestPeerThatNeverCloses(t *testing.T) {
	t.Parallel()
	proctest.Check(t, func() error {
		peer, ours := pair(t)
		begun := time.Now()
		<-end(t, ours, []byte("answer"))
		took := time.Since(begun)
		if took < quiet {
			t.Errorf("closed after %v", took)
		}
		if got, err := io.ReadAll(peer); string(got) != "answer" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if took > 2*quiet { // the machine may stall once
			return fmt.Errorf("closed after %v", took)
		}
		return nil
	})
}

func TestSlowReaderGetsAll(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 3 s: it has to be slower than the wait for a quiet peer")
	}
	proctest.Check(t, func() error {
		peer, ours := pair(t)
		sent := fill(t, ours)
		answer := bytes.Repeat([]byte("x"), 100000)
		begun := time.Now()
		settled := end(t, ours, answer)
		proctest.Quiet(quiet + quiet/4)
		early := isClosed(settled)
		n, err := io.Copy(io.Discard, peer)
		peer.Close()
		<-settled
		if took := time.Since(begun); took >= patience { // the machine has stalled
			return fmt.Errorf("the test took %v", took)
		}
		if early {
			t.Error("given up")
		}
		if n != sent+int64(len(answer)) || err != nil {
			t.Errorf("%d of %d bytes, %v", n, sent+int64(len(answer)), err)
		}
		return nil
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// fill writes until nothing more fits.
func fill(t *testing.T, c *net.TCPConn) (n int64) {
	t.Helper()
	room := []unix.PollFd{{Fd: int32(descriptor(c)), Events: unix.POLLOUT}}
	for full := false; ; {
		m, err := unix.Write(int(room[0].Fd), make([]byte, 64<<10))
		switch {
		case err == nil:
			n += int64(m)
			full = false
		case err != unix.EAGAIN:
			must(t, err)
		case full:
			return n
		default:
			const settles = 50 // ms that the kernel has to move bytes to the other side
			k, err := unix.Poll(room, settles)
			full = k == 0 && err == nil
		}
	}
}

func TestManyEndings(t *testing.T) {
	var list []*ending
	var peers []*net.TCPConn
	for range 300 {
		peer, ours := pair(t)
		fd, err := unix.FcntlInt(uintptr(descriptor(ours)), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		ours.Close()
		list = append(list, &ending{fd: fd, left: []byte("answer")})
		peers = append(peers, peer)
	}
	settled := settle(list)
	for _, p := range peers {
		if got, err := io.ReadAll(p); string(got) != "answer" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		p.Close()
	}
	<-settled
}

// judge runs the part of a rescue that comes after the vault.
func judge(t *testing.T, o Options, conns ...fetched) *rescue {
	t.Helper()
	r := &rescue{options: o, conns: conns}
	r.judge(time.Now())
	return r
}

func TestWhatIsNotHTTP1EndsInOrder(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/s")
	must(t, err)
	defer l.Close()
	peer, err := net.Dial("unix", dir+"/s")
	must(t, err)
	defer peer.Close()
	c, err := l.Accept()
	must(t, err)
	f, err := c.(*net.UnixConn).File()
	must(t, err)
	c.Write([]byte("half an ans"))
	c.Close()
	peer.Write([]byte("unread"))
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	f.Close()
	tcpPeer, tcp := pair(t)
	tcp.Write([]byte("half an ans"))
	tcpPeer.Write([]byte("unread"))
	tcpFD, err := unix.FcntlInt(uintptr(descriptor(tcp)), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	tcp.Close()
	r := judge(t, Options{}, fetched{fd: fd, line: Line{State: HTTP1}}, fetched{fd: tcpFD, line: Line{State: Pinned}})
	if r.Counts != (Counts{Closed: 2}) {
		t.Errorf("%+v", r.Counts)
	}
	settled := settle(r.endings)
	for _, p := range []net.Conn{peer, tcpPeer} {
		if got, err := io.ReadAll(p); string(got) != "half an ans" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		p.Close()
	}
	<-settled
}

// TestSentThatThePeerHasLeft is not one with a request.
func TestSentThatThePeerHasLeft(t *testing.T) {
	peer, ours := pair(t)
	must(t, peer.CloseWrite())
	ours.Read(make([]byte, 1)) // the FIN is there
	fd, err := unix.FcntlInt(uintptr(descriptor(ours)), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	r := judge(t, Options{}, fetched{fd: fd, line: Line{State: Sent}})
	if len(r.Sent) != 1 || r.Sent[0].Else.Verdict != Drop {
		t.Errorf("%+v", r)
	}
	unix.Close(fd)
}

func TestSentIsLeftAlone(t *testing.T) {
	peer, ours := pair(t)
	fd, err := unix.FcntlInt(uintptr(descriptor(ours)), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	r := judge(t, Options{}, fetched{fd: fd, line: Line{State: Sent}})
	if len(r.Sent) != 1 || r.Sent[0].Else.Verdict != Idle || len(r.endings) != 0 || r.Counts != (Counts{Sent: 1}) {
		t.Fatalf("%+v", r)
	}
	unix.Close(r.Sent[0].FD)
	ours.Write([]byte("the receiver goes on"))
	ours.Close()
	if got, err := io.ReadAll(peer); string(got) != "the receiver goes on" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestClaimedIsLeftAlone: somebody else may go on with it, and is seen to have done so.
// Whatever looks as if it was just being accepted is claimed, if it may be.
func TestClaimedIsLeftAlone(t *testing.T) {
	peer, ours := pair(t)
	here := []netip.AddrPort{ours.LocalAddr().(*net.TCPAddr).AddrPort()}
	rescued := func(doubt bool, l Line) *rescue {
		fd, err := unix.FcntlInt(uintptr(descriptor(ours)), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		l.FD = fd
		return judge(t, Options{Doubt: doubt, Listen: here}, fetched{fd: fd, line: l})
	}
	if r := rescued(false, Line{}); len(r.Idle) != 1 || r.Idle[0].Marked {
		t.Errorf("just accepted: %+v", r)
	} else {
		unix.Close(r.Idle[0].FD)
	}
	for _, l := range []Line{{}, {State: Claimed, ReqEnd: 1}} {
		r := rescued(true, l)
		if len(r.Claimed) != 1 || r.Claimed[0].Else.Verdict != Idle || r.Claimed[0].Taken || len(r.endings) != 0 || r.Counts != (Counts{}) {
			t.Fatalf("%+v", r)
		}
		unix.Close(r.Claimed[0].FD)
	}
	peer.Write([]byte("a request"))
	waitUnread(t, descriptor(ours), uint64(len("a request")))
	if r := rescued(true, Line{State: Claimed, ReqEnd: 1}); len(r.Claimed) != 1 || r.Claimed[0].Taken || !r.Claimed[0].Waits {
		t.Errorf("touched by what its client sends: %+v", r)
	} else {
		if c := &r.Claimed[0]; !c.Untouched() {
			t.Errorf("touched by nobody: %+v", c)
		}
		ours.Read(make([]byte, 1))
		if c := &r.Claimed[0]; c.Untouched() {
			t.Error("not touched by who reads from it")
		}
		unix.Close(r.Claimed[0].FD)
	}
	r := rescued(true, Line{State: Claimed, ReqEnd: 1})
	if len(r.Claimed) != 1 || !r.Claimed[0].Taken {
		t.Errorf("not taken by who has read from it: %+v", r)
	}
	unix.Close(r.Claimed[0].FD)
	ours.Write([]byte("answer"))
	ours.Close()
	if got, err := io.ReadAll(peer); string(got) != "answer" || err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestUnreadRestOfARequestIsSkipped(t *testing.T) {
	for _, next := range []string{"", ", next"} {
		peer, ours := pair(t)
		peer.Write([]byte("POST body" + next))
		io.ReadFull(ours, make([]byte, 5))
		ours.Write([]byte("answer"))
		fd := descriptor(ours)
		waitUnread(t, fd, uint64(4+len(next)))
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		r := judge(t, Options{}, fetched{fd: dup, line: Line{State: HTTP1, Running: true, End: 6, ReqEnd: 9}})
		if len(r.Idle) != 1 || r.Idle[0].RX != 9 || r.Idle[0].TX != 6 || r.Idle[0].Waits != (next != "") {
			t.Fatalf("%q: %+v", next, r)
		}
		unix.Close(dup)
		peer.CloseWrite()
		if rest, _ := io.ReadAll(ours); string(rest) != next {
			t.Errorf("%q", rest)
		}
	}
}

func waitUnread(t *testing.T, fd int, n uint64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		if c, err := Inspect(fd); err != nil || c.Unread == n {
			must(t, err)
			return
		}
		if time.Now().After(end) {
			t.Fatal("nothing arrives")
		}
	}
}

func TestNobodyTakesIdleConnections(t *testing.T) {
	peer, ours := pair(t)
	fd, err := unix.FcntlInt(uintptr(descriptor(ours)), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	ours.Close()
	r := judge(t, Options{NoIdle: true}, fetched{fd: fd, line: Line{State: HTTP1}})
	settled := settle(r.endings)
	if got, err := io.ReadAll(peer); len(got) > 0 || err != nil || r.Counts != (Counts{Ended: 1}) {
		t.Errorf("%q, %v, %+v", got, err, r.Counts)
	}
	peer.Close()
	<-settled
}

// descriptors lists what this process has open.
func descriptors(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	var all []string
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasSuffix(target, "/fd") {
			all = append(all, e.Name()+" "+target)
		}
	}
	return strings.Join(all, "\n")
}
