package vault

import (
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	peer, ours := pair(t)
	begun := time.Now()
	<-end(t, ours, []byte("answer"))
	if took := time.Since(begun); took < quiet || took > 2*quiet {
		t.Errorf("closed after %v", took)
	}
	if got, err := io.ReadAll(peer); string(got) != "answer" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSlowReaderGetsAll(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 3 s: it has to be slower than the wait for a quiet peer")
	}
	peer, ours := pair(t)
	sent := fill(t, ours)
	answer := bytes.Repeat([]byte("x"), 100000)
	settled := end(t, ours, answer)
	time.Sleep(quiet + quiet/4)
	select {
	case <-settled:
		t.Error("given up")
	default:
	}
	n, err := io.Copy(io.Discard, peer)
	if n != sent+int64(len(answer)) || err != nil {
		t.Errorf("%d of %d bytes, %v", n, sent+int64(len(answer)), err)
	}
	peer.Close()
	<-settled
}

// fill writes until nothing more fits.
func fill(t *testing.T, c *net.TCPConn) (n int64) {
	t.Helper()
	fd := descriptor(c)
	for idle := 0; idle < 20; {
		m, err := unix.Write(fd, make([]byte, 64<<10))
		if err == unix.EAGAIN {
			idle++
			time.Sleep(time.Millisecond)
			continue
		}
		must(t, err)
		n += int64(m)
		idle = 0
	}
	return n
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

func TestUnreadRestOfARequestIsSkipped(t *testing.T) {
	peer, ours := pair(t)
	peer.Write([]byte("POST body, next"))
	io.ReadFull(ours, make([]byte, 5))
	ours.Write([]byte("answer"))
	fd := descriptor(ours)
	waitUnread(t, fd, 10)
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	r := judge(t, Options{}, fetched{fd: dup, line: Line{State: HTTP1, Running: true, End: 6, ReqEnd: 9}})
	if len(r.Idle) != 1 || r.Idle[0].RX != 9 || r.Idle[0].TX != 6 {
		t.Fatalf("%+v", r)
	}
	unix.Close(dup)
	peer.CloseWrite()
	if rest, _ := io.ReadAll(ours); string(rest) != ", next" {
		t.Errorf("%q", rest)
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
