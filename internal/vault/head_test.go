package vault

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestParseRequest(t *testing.T) {
	const sizeOf = "GET / HTTP/1.1\r\nHost: x\r\n"
	n := uint64(len(sizeOf) + 2)
	for _, c := range []struct {
		in   string
		want Request
	}{
		{"", Request{}},
		{"GET / HT", Request{}},
		{"GET / HTTP/1.1\r\nHo", Request{Kind: Known}},
		{sizeOf + "\r\n", Request{Known, n, n, false, false}},
		{sizeOf + "\r\nGET / HTTP", Request{Known, n, n, false, false}},
		{"GET / HTTP/1.1\nHost: x\n\n", Request{Known, n - 3, n - 3, false, false}},
		{"\r\n\n" + sizeOf + "\r\n", Request{Known, n + 3, n + 3, false, false}},
		{sizeOf + "conTENT-length:  7 \r\n\r\n", Request{Known, n + 21, n + 28, false, false}},
		{sizeOf + "Transfer-Encoding: CHUNKED\r\n\r\n", Request{Known, n + 28, 0, true, false}},
		{"HEAD / HTTP/1.1\r\n\r\n", Request{Known | Head, 19, 19, false, false}},
		{"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n", Request{Known, 38, 45, false, true}},
		{"GET / HTTP/1.0\r\n\r\n", Request{Known | HTTP10, 18, 18, false, false}},
		// No length is believed where two readers could differ.
		{sizeOf + "Content-Length: 7\r\nContent-Length: 8\r\n\r\n", Request{Known, n + 38, 0, false, false}},
		{sizeOf + "Content-Length: +7\r\n\r\n", Request{Known, n + 20, 0, false, false}},
		{sizeOf + "Content-Length: \r\n\r\n", Request{Known, n + 18, 0, false, false}},
		{sizeOf + "Content-Length: 9999999999999999999\r\n\r\n", Request{Known, n + 37, 0, false, false}},
		{sizeOf + "Content-Length : 7\r\n\r\n", Request{Known, n + 20, 0, false, false}},
		{sizeOf + "A: b\r\n Content-Length: 7\r\n\r\n", Request{Known, n + 26, 0, false, false}},
		{sizeOf + "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", Request{Known, n + 47, 0, false, false}},
		{sizeOf + "Transfer-Encoding: gzip, chunked\r\n\r\n", Request{Known, n + 34, 0, false, false}},
		{sizeOf + "Upgrade: websocket\r\n\r\n", Request{Known, n + 20, 0, false, false}},
		{"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", Request{Known, 35, 0, false, false}},
	} {
		if got := ParseRequest([]byte(c.in)); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.in, got, c.want)
		}
	}
}

// FuzzParseRequest compares with net/http: where we name an end, it must find
// the same.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\r\nHEAD / HTTP/1.0\nA:b\n\n"))
	f.Add([]byte("GET / HTTP/0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nrest"))
	f.Fuzz(func(t *testing.T, in []byte) {
		ours := ParseRequest(in)
		if ours.Head > uint64(len(in)) || ours.End != 0 && ours.End < ours.Head {
			t.Fatalf("impossible: %+v", ours)
		}
		lead := len(in) - len(bytes.TrimLeft(in, "\r\n"))
		src := bytes.NewReader(in[lead:])
		r := bufio.NewReaderSize(src, 16)
		req, err := http.ReadRequest(r)
		if err != nil || ours.Head == 0 {
			return
		}
		end := ours.End
		if ours.Chunked {
			var c Chunks
			if n, found := c.Scan(in[ours.Head:]); found {
				end = ours.Head + uint64(n)
			}
		}
		if end == 0 || end > uint64(len(in)) {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		if got := uint64(len(in) - src.Len() - r.Buffered()); got != end {
			t.Fatalf("we say %d (%+v), net/http read %d", end, ours, got)
		}
	})
}

func TestResponseEnd(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	chunked := ok + "Transfer-Encoding: chunked\r\n\r\n"
	for _, c := range []struct {
		kind Kind
		in   string // up to | is the response
		want Mark
	}{
		{Known, ok + "Content-Length: 5\r\n\r\nhello|", Mark{}},
		{Known, ok + "content-LENGTH:0\r\n\r\n|", Mark{}},
		{Known, ok + "Content-Length: 5\r\nCONNECTION: Foo, CLOSE\r\n\r\nhello|", Mark{Last: true}},
		{Known | HTTP10, ok + "Content-Length: 5\r\n\r\nhello|", Mark{Last: true}},
		{Known | HTTP10, ok + "Content-Length: 5\r\nConnection: Keep-Alive\r\n\r\nhello|", Mark{}},
		{Known | Head, ok + "Content-Length: 5\r\n\r\n|", Mark{}},
		{Known | Head, ok + "Transfer-Encoding: chunked\r\n\r\n|", Mark{}},
		{Known, "HTTP/1.1 204 No Content\r\n\r\n|", Mark{}},
		{Known, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n|", Mark{}},
		{Known, chunked + "5\r\nhello\r\n0\r\n\r\n|", Mark{}},
		{Known, chunked + "5;a=b\r\nx0\r\n\r\r\n0\r\n\r\n|", Mark{}},
		{Known, chunked + "4\r\nx0\r\n\r\n0\r\nTrailer: x\r\n\r\n|", Mark{}},
		{Known, chunked + "A\r\n0123456789\r\n00\r\n\r\n|", Mark{}},
		{Known, "HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 1\r\n\r\nx|", Mark{}},
	} {
		resp, after, _ := strings.Cut(c.in, "|")
		in := resp + after
		for split := range len(in) {
			var r Response
			r.Begin(c.kind)
			got, interims := writeAll(&r, in[:split], in[split:])
			want := c.want
			want.End = uint64(len(resp))
			if got != want {
				t.Errorf("%q split at %d: got %+v, want %+v", in, split, got, want)
			}
			if interims > 0 && !strings.Contains(in, " 100 ") {
				t.Errorf("%q: an interim response", in)
			}
		}
	}
}

// writeAll gives the mark with its End from the first byte of all.
func writeAll(r *Response, parts ...string) (end Mark, interims int) {
	at := 0
	for _, p := range parts {
		m := r.Write([]byte(p))
		switch {
		case m.End > 0 && m.Interim:
			interims++
		case m.End > 0:
			end = m
			end.End += uint64(at)
		}
		at += len(p)
	}
	return end, interims
}

func TestResponseEndUnknown(t *testing.T) {
	for _, in := range []string{
		"HTTP/1.1 200 OK\r\n\r\nuntil the connection ends",
		"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5\r\n\r\n",
		"HTTP/2 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nx0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Len",
		"\r\n\r\n", "garbage\r\n\r\n",
	} {
		var r Response
		r.Begin(Known)
		if m := r.Write([]byte(in)); m != (Mark{}) {
			t.Errorf("%q: %+v", in, m)
		}
	}
	var unknown Response
	if m := unknown.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")); m != (Mark{}) {
		t.Errorf("of an unknown request: %+v", m)
	}
}

func TestInterimResponses(t *testing.T) {
	var r Response
	r.Begin(Known)
	hints := "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
	for range 2 {
		if m := r.Write([]byte(hints)); m != (Mark{End: uint64(len(hints)), Interim: true}) {
			t.Fatalf("%+v", m)
		}
	}
	if m := r.Write([]byte("HTTP/1.1 204 No\r\n\r\n")); m != (Mark{End: 19}) {
		t.Fatalf("%+v", m)
	}
	if m := r.Write([]byte("HTTP/1.1 204 No\r\n\r\n")); m != (Mark{}) {
		t.Fatalf("after the end: %+v", m)
	}
}

// FuzzResponse compares with net/http, whatever the pieces are.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcrest"), uint(5), false)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\nrest"), uint(60), false)
	f.Add([]byte("HTTP/1.1 304 OK\r\n\r\nx"), uint(0), true)
	f.Fuzz(func(t *testing.T, in []byte, split uint, head bool) {
		kind, method := Known, "GET"
		if head {
			kind, method = Known|Head, "HEAD"
		}
		split %= uint(len(in) + 1)
		var r Response
		r.Begin(kind)
		ours, interims := writeAll(&r, string(in[:split]), string(in[split:]))
		if ours.End == 0 || ours.End > uint64(len(in)) || interims > 0 {
			return
		}
		src := bytes.NewReader(in)
		br := bufio.NewReaderSize(iotest.OneByteReader(src), 16)
		var resp *http.Response
		for {
			var err error
			if resp, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
				return
			}
			if resp.StatusCode >= 200 {
				break
			}
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return
		}
		if got := uint64(len(in) - src.Len() - br.Buffered()); got != ours.End {
			t.Fatalf("we say %+v, net/http read %d", ours, got)
		}
	})
}

func TestPage(t *testing.T) {
	page := &Page{ContentType: "text/html", Body: []byte("<p>sorry"), RetryAfter: 1500 * time.Millisecond}
	for _, p := range []*Page{nil, {}, page, {Body: []byte("<html>")}, {Body: []byte{}}} {
		for _, status := range []int{500, 503} {
			for _, k := range []Kind{0, Known, Known | Head, Known | HTTP10, Known | Head | HTTP10} {
				checkPage(t, p, status, k)
			}
		}
	}
	if b := page.Render(503, Known, time.Now()); !bytes.Contains(b, []byte("\r\nRetry-After: 2\r\n")) || !bytes.HasSuffix(b, []byte("\r\n\r\n<p>sorry")) {
		t.Errorf("%q", b)
	}
	if b := page.Render(500, Known|HTTP10, time.Now()); !bytes.HasPrefix(b, []byte("HTTP/1.0 500 Internal Server Error\r\n")) || bytes.Contains(b, []byte("Retry-After")) {
		t.Errorf("%q", b)
	}
}

func checkPage(t *testing.T, p *Page, status int, k Kind) {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := bufio.NewReader(bytes.NewReader(p.Render(status, k, now)))
	method := "GET"
	if k&Head != 0 {
		method = "HEAD"
	}
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%v %d %b: %v", p, status, k, err)
	}
	body, err := io.ReadAll(resp.Body)
	rest, _ := io.ReadAll(r)
	name := fmt.Sprintf("%v %d %b: %+v %q", p, status, k, resp, body)
	if err != nil || len(rest) > 0 || !resp.Close || resp.StatusCode != status {
		t.Error(name, err, rest)
	}
	if resp.Header.Get("Date") != "Fri, 02 Jan 2026 03:04:05 GMT" || resp.ContentLength < 0 {
		t.Error(name)
	}
	if k == 0 && resp.ContentLength != 0 {
		t.Error(name, "a body that a HEAD request wouldn't expect")
	}
	if (resp.Header.Get("Content-Type") != "") != (k&Known != 0) {
		t.Error(name)
	}
}
