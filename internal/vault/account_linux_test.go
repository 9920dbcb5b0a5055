package vault

import (
	"math/rand/v2"
	"net"
	"strings"
	"testing"
)

func TestAccountFollowsAConnection(t *testing.T) {
	for i := range 200 {
		k := newTalk(t)
		k.want(Idle, 0)
		for range 3 {
			k.a.Boundary(k.rx, k.tx)
			k.want(Idle, 0)
			whole := i%2 == 0
			k.read("POST / HTTP/1.1\r\nHost: x\r\n", whole)
			k.want(Answer503, Known)
			chunked := rand.IntN(2) == 0
			if chunked {
				k.read("Transfer-Encoding: chunked\r\n\r\n3\r\nab", whole)
			} else {
				k.read("Content-Length: 5\r\n\r\nab", whole)
			}
			k.a.Active()
			k.want(Answer500, Known)
			if chunked {
				k.read("c\r\n0\r\n\r\n", whole)
			} else {
				k.read("cde", whole)
			}
			k.want(Answer500, Known)
			k.write("HTTP/1.1 103 Early Hints\r\n\r\n")
			k.want(Answer500, Known)
			k.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			k.want(Cut, 0)
			k.write("0\r\n\r\n")
			k.want(Done, 0)
		}
		k.a.Pin()
		k.want(Close, 0)
		k.a.Close()
		k.peer.Close()
		k.ours.Close()
	}
}

func TestAccountAcrossBoundaries(t *testing.T) {
	const get = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
	k := newTalk(t)
	k.a.Boundary(0, 0)
	k.read(get+get[:2], true) // net/http has two bytes of the next one in its buffer
	k.a.Active()
	k.want(Answer500, Known|Head)
	k.write("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
	k.want(Answer503, 0) // the next one
	k.a.Boundary(k.rx-2, k.tx)
	k.want(Answer503, 0)
	k.read(get[2:], false)
	k.want(Answer503, Known|Head)
	k.a.Active()
	k.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
	k.want(Ended, 0)
	k.a.Boundary(k.rx, k.tx)
	k.want(Idle, 0)
	k.a.Leave()
	k.want(Leave, 0)
	k.a.Back(0)
	k.want(Idle, 0)
	k.read("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n"+get, true)
	k.a.Active()
	k.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	k.a.Unknown(k.tx)
	k.want(Answer503, 0)
	k.a.Active()
	k.want(Answer500, 0)
	k.write("HTTP/1.1 200 OK\r\n\r\n")
	k.want(Cut, 0)
	k.a.Boundary(k.rx, k.tx)
	k.want(Idle, 0)
	k.a.Copied(3)
}

// TestAccountOfPipelinedRequests: where each begins and ends is known even though
// net/http has read all of them before the first is answered.
func TestAccountOfPipelinedRequests(t *testing.T) {
	const (
		post    = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
		chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
		head    = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
		ok      = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	)
	for _, whole := range []bool{true, false} {
		k := newTalk(t)
		k.a.Boundary(0, 0)
		k.read(post+"\r\n"+chunked+head+post, whole)
		k.a.Active()
		kinds := []Kind{Known, Known, Known | Head, Known}
		for i, answer := range []string{ok + "ab", ok + "ab", ok} {
			k.want(Answer500, kinds[i])
			k.write(answer)
			k.want(Answer503, 0) // the next one
			k.a.Unknown(k.tx)
			k.want(Answer503, kinds[i+1])
			k.a.Active()
		}
		k.write(ok + "ab")
		k.want(Done, 0)
		k.read("GET / HTTP/1.1\r\nHo", whole)
		k.a.Unknown(k.tx)
		k.want(Answer503, Known)
		k.read("st: x\r\n\r\n", whole)
		k.a.Active()
		k.write("HTTP/1.1 204 No Content\r\n\r\n")
		k.want(Done, 0)
		k.a.Boundary(k.rx, k.tx)
		k.want(Idle, 0)
	}
}

// TestAccountForgetsTooMany pipelined bytes, and knows that it did.
func TestAccountForgetsTooMany(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	k := newTalk(t)
	k.a.Boundary(0, 0)
	k.read(get, true)
	k.a.Active()
	for range maxBehind/len(get) + 2 {
		k.read(get, true)
	}
	k.write("HTTP/1.1 204 No Content\r\n\r\n")
	k.a.Unknown(k.tx)
	k.a.Active()
	k.write("HTTP/1.1 204 No Content\r\n\r\n")
	k.want(Cut, 0)
	k.a.Boundary(k.rx, k.tx)
	if k.a.First() == nil {
		t.Error("line ends may follow: nobody knows what the last request was")
	}
}

// TestAccountOfAConnectionThatCameBack is told the bytes of the next request once
// more.
func TestAccountOfAConnectionThatCameBack(t *testing.T) {
	const get = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, begun := range []string{"", "\r", "\r\n", "HE", "\r\nHEAD / H"} {
		k := newTalk(t)
		k.a.Boundary(0, 0)
		k.read(get, true)
		k.a.Active()
		k.write("HTTP/1.1 204 No Content\r\n\r\n")
		k.a.Boundary(k.rx, k.tx)
		k.read(begun, true)
		k.a.Leave()
		k.want(Leave, 0)
		k.a.Back(len(begun))
		part := strings.TrimLeft(begun, "\r\n")
		between := Idle
		if part != "" {
			between = Answer503
		}
		k.want(between, 0)
		k.a.Read([]byte(begun[:len(begun)-len(part)]))
		k.want(between, 0)
		k.a.Boundary(k.rx-int64(len(part)), k.tx)
		k.a.Read([]byte(part))
		k.want(between, 0)
		k.read(get[len(part):], true)
		k.a.Active()
		k.want(Answer500, Known|Head)
		k.write("HTTP/1.1 204 No Content\r\n\r\n")
		k.want(Done, 0)
		k.a.Boundary(k.rx, k.tx)
		k.want(Idle, 0)
	}
}

// TestAccountOfAConnectionThatLeft tells whether its receiver has touched it, wherever
// it had come from, and whatever of a request had been read.
func TestAccountOfAConnectionThatLeft(t *testing.T) {
	for _, begun := range []string{"", "\r\n", "HE", "\r\nHEAD / H"} {
		for _, touch := range []func(*talk){
			func(k *talk) { k.read("!", true) },
			func(k *talk) { k.write("!") },
		} {
			k := newTalk(t)
			k.a.Boundary(0, 0)
			k.read(begun, true)
			k.a.Leave()
			k.want(Leave, 0)
			k.a.Back(len(begun))
			k.a.Leave() // at once, to another one
			k.want(Leave, 0)
			tab, v, _ := memory(t)
			k.a, k.view = tab.FollowClaimed(k.fd, 1, []byte(begun)), v
			k.want(Leave, 0)
			claimed, err := v.Lines()
			must(t, err)
			k.a.Own()
			k.a.Leave() // which goes on at once, too
			k.want(Leave, 0)
			touch(k)
			sent, err := v.Lines()
			must(t, err)
			for _, l := range append(claimed, sent...) {
				if c, err := Inspect(k.fd); err != nil || !l.taken(c) {
					t.Errorf("%q: somebody has touched it: %+v, %+v, %v", begun, l, c, err)
				}
			}
		}
	}
}

// TestAccountOfLineEndsThatTravel: a connection on which another process has read
// nothing but those is idle before Read is told of them.
func TestAccountOfLineEndsThatTravel(t *testing.T) {
	k := newTalk(t)
	k.read("\r\n", true)
	tab, v, _ := memory(t)
	k.a, k.view = tab.Follow(k.fd, 1, []byte("\r\n")), v
	k.want(Idle, 0)
	k.a.Read([]byte("\r\n"))
	k.want(Idle, 0)
	k.a.Boundary(2, 0)
	k.want(Idle, 0)
}

func TestAccountOfAnAdoptedConnection(t *testing.T) {
	k := newTalk(t)
	k.a.Boundary(0, 0)
	k.read("\r\nGET / HT", true)
	// Another process goes on, as live tells it: the empty line is passed
	// over and counts as read, the rest is told.
	tab, v, _ := memory(t)
	k.a, k.view = tab.Follow(k.fd, 1, []byte("\r\nGET / HT")), v
	k.a.Boundary(2, 0)
	k.a.Read([]byte("GET / HT"))
	k.want(Answer503, 0)
	k.rx = int64(len("\r\nGET / HT"))
	k.read("TP/1.1\r\n\r\n", false)
	k.a.Active()
	k.want(Answer500, Known)
	k.write("HTTP/1.1 204 No Content\r\n\r\n")
	k.want(Done, 0)
	k.a.Boundary(k.rx, k.tx)
	k.want(Idle, 0)
}

func TestAccountOfAUnixConnection(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	must(t, err)
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	must(t, err)
	defer c.Close()
	f, err := c.(*net.UnixConn).File()
	must(t, err)
	defer f.Close()
	tab, v, _ := memory(t)
	a := tab.Follow(int(f.Fd()), 0, nil)
	a.Boundary(0, 0)
	a.Read([]byte("GET / HTTP/1.1\r\n\r\n"))
	a.Active()
	a.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	a.Leave()
	a.Back(0)
	lines, err := v.Lines()
	if err != nil || len(lines) != 1 || lines[0].State != Pinned {
		t.Errorf("%+v, %v", lines, err)
	}
	a.Close()
	if lines, _ := v.Lines(); len(lines) != 0 {
		t.Errorf("%+v", lines)
	}
}

func TestAccountAllocatesNothing(t *testing.T) {
	k := newTalk(t)
	req := []byte("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n")
	resp := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	var rx, tx int64
	if n := testing.AllocsPerRun(100, func() {
		k.a.Boundary(rx, tx)
		k.a.Read(req)
		k.a.Active()
		k.a.Write(resp)
		rx += int64(len(req))
		tx += int64(len(resp))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAccountRequest(b *testing.B) {
	tab, _, _ := memory(b)
	_, ours := pair(b)
	a := tab.Follow(descriptor(ours), 1, nil)
	req := []byte("GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n")
	resp := []byte("HTTP/1.1 200 OK\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\nContent-Length: 5\r\n\r\nhello")
	var rx, tx int64
	for b.Loop() {
		a.Boundary(rx, tx)
		a.Read(req)
		a.Active()
		a.Write(resp)
		rx += int64(len(req))
		tx += int64(len(resp))
	}
}
