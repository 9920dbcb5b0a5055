package vault

import "testing"

// TestLineEndsAreNoRequest: some clients send one after a body.
func TestLineEndsAreNoRequest(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
	for _, whole := range []bool{true, false} {
		k := newTalk(t)
		k.a.Boundary(0, 0)
		k.read("\r\n", whole)
		k.want(Idle, 0)
		k.read("\n"+post+"ab\r\n", whole)
		k.want(Answer503, Known)
		k.a.Active()
		k.want(Answer500, Known)
		k.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		k.want(Done, 0)
		k.a.Boundary(k.rx-2, k.tx) // they are in net/http's buffer
		k.want(Idle, 0)
		k.read(post+"a", whole)
		k.a.Active()
		k.read("b\r", whole)
		k.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		k.want(Done, 0)
		k.a.Boundary(k.rx, k.tx)
		k.read("\n", whole)
		k.want(Idle, 0)
		k.read("P", whole)
		k.want(Answer503, 0)
	}
}

// TestLineEndsOfWhichNobodyTookNote: the worker is killed between a read and what
// it would have done next.
func TestLineEndsOfWhichNobodyTookNote(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
	k := newTalk(t)
	k.a = k.a.table.Follow(k.fd, 1, nil) // another process may have had a POST
	k.a.Boundary(0, 0)
	k.readSilently("\r", Idle)
	k.readSilently("\n", Idle)
	k.readSilently("P", Answer503)
	k.read(post[1:], true)
	k.a.Active()
	k.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	k.want(Done, 0)
	k.readSilently("\r", Done) // while the handler's answer is on its way
	k.a.Boundary(k.rx-1, k.tx)
	k.want(Idle, 0)
	k.readSilently("\n", Idle)
	k.readSilently("\r\nPO", Answer503)
	if k.a.First() != nil {
		t.Error("not only the first bytes")
	}
	k.read(post[2:], true)
	k.a.Active()
	k.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	k.readSilently("P", Answer503) // the next one
}

// TestNoLineEndsAreExpected but behind a POST: net/http answers them with 400
// elsewhere, and reading is cheaper then. Nor behind a POST, if there were none behind
// an earlier one.
func TestNoLineEndsAreExpected(t *testing.T) {
	const (
		get     = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
		head    = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
		put     = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
		post    = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
		odd     = "POST / HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\n\r\n" // whose end isn't known
		chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	)
	type step struct {
		request string
		may     bool // line ends may follow
	}
	for _, steps := range [][]step{
		{{get, false}, {post, true}, {put, false}, {post, false}, {chunked, false}, {head, false}},
		{{put, false}, {chunked, true}, {post, false}, {"\r\n" + post, true}, {post, true}},
		{{post + "\r\n", true}, {get, false}, {chunked, true}, {get, false}},
		{{"\n" + get, false}, {post, true}, {post, true}, {head, false}},
		{{odd, true}, {get, false}, {odd, false}},
	} {
		k := newTalk(t)
		for i, c := range steps {
			k.a.Boundary(k.rx, k.tx)
			if i == 0 && k.a.First() != nil {
				t.Error("before the first request")
			}
			k.read(c.request, i%2 == 0)
			k.a.Active()
			if active := k.a.First() != nil; active != c.may {
				t.Errorf("during %q, step %d of %v: %v", c.request, i, steps, active)
			}
			k.write("HTTP/1.1 204 No Content\r\n\r\n")
			if c.request == odd {
				k.want(Ended, 0)
			} else {
				k.want(Done, 0)
			}
			k.a.Boundary(k.rx, k.tx)
			if behind := k.a.First() != nil; behind != c.may {
				t.Errorf("behind %q, step %d of %v: %v", c.request, i, steps, behind)
			}
		}
	}
}
