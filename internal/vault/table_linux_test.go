package vault

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestLineSize(t *testing.T) {
	if n := unsafe.Sizeof(line{}); n != lineSize {
		t.Errorf("a line has %d bytes", n)
	}
}

func memory(t testing.TB) (*Table, *View, *os.File) {
	t.Helper()
	f, tab, err := newMemory()
	must(t, err)
	t.Cleanup(func() {
		f.Close()
		unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&tab.lines[0])), len(tab.lines)*lineSize))
	})
	v, err := NewView(f)
	must(t, err)
	return tab, v, f
}

func TestKeeperReadsWhatTheWorkerStored(t *testing.T) {
	tab, v, _ := memory(t)
	lines, err := v.Lines()
	if err != nil || len(lines) != 0 {
		t.Fatal(lines, err)
	}
	last := len(tab.lines) - 1
	tab.Adopted(7, 3, 10, 20)
	tab.Accepted(last, 0)
	tab.Pin(last)
	tab.Accepted(last+1, 0)
	tab.Accepted(9, 0)
	tab.Close(9)
	tab.Begun(7, Known)
	tab.Active(7, 30, Known|Head)
	tab.Interim(7, 25)
	tab.Interim(7, 29)
	tab.Last(7, 40)
	lines, err = v.Lines()
	must(t, err)
	want := []Line{
		{FD: 7, State: HTTP1, Running: true, Last: true, Kind: Known | Head, Server: 3, BRX: 10, BTX: 25, End: 40, ReqEnd: 30, Alt: 29},
		{FD: last, State: Pinned},
	}
	if len(lines) != 2 || lines[0] != want[0] || lines[1] != want[1] {
		t.Errorf("got %+v\nwant %+v", lines, want)
	}
	tab.Unknown(7, 40)
	tab.Sent(7, 33)
	lines, _ = v.Lines()
	if want := (Line{FD: 7, State: Sent, Server: 3, BRX: unknown, BTX: 40, ReqEnd: 34, Alt: 29}); lines[0] != want {
		t.Errorf("got %+v\nwant %+v", lines[0], want)
	}
	tab.Owned(7)
	tab.Boundary(7, 30, 40)
	lines, _ = v.Lines()
	if want := (Line{FD: 7, State: HTTP1, Server: 3, BRX: 30, BTX: 40, Alt: 29}); lines[0] != want {
		t.Errorf("got %+v\nwant %+v", lines[0], want)
	}
	tab.Claimed(7, 3, 50, 60, 52)
	lines, _ = v.Lines()
	if want := (Line{FD: 7, State: Claimed, Server: 3, BRX: 50, BTX: 60, ReqEnd: 53}); lines[0] != want {
		t.Errorf("got %+v\nwant %+v", lines[0], want)
	}
	tab.Owned(7)
	lines, _ = v.Lines()
	if want := (Line{FD: 7, State: HTTP1, Server: 3, BRX: 50, BTX: 60}); lines[0] != want {
		t.Errorf("got %+v\nwant %+v", lines[0], want)
	}
}

func TestNotATable(t *testing.T) {
	_, _, f := memory(t)
	if err := f.Truncate(lineSize); err == nil {
		t.Error("a worker can shrink its table")
	}
	plain, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	defer plain.Close()
	if _, err := NewView(plain); err == nil {
		t.Error("an empty file is a table")
	}
	must(t, plain.Truncate(lineSize*10))
	if _, err := NewView(plain); err == nil {
		t.Error("an unsealed file is a table")
	}
	fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	must(t, err)
	mem := os.NewFile(uintptr(fd), "x")
	defer mem.Close()
	must(t, mem.Truncate(lineSize*10))
	_, err = unix.FcntlInt(mem.Fd(), unix.F_ADD_SEALS, seals)
	must(t, err)
	if _, err := NewView(mem); err == nil {
		t.Error("a memory without the mark is a table")
	}
}

func TestTableAllocatesNothing(t *testing.T) {
	tab, _, _ := memory(t)
	var r Response
	head := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	req := []byte("GET / HTTP/1.1\r\nHost: example\r\nUser-Agent: x\r\nContent-Length: 5\r\n\r\n")
	n := testing.AllocsPerRun(100, func() {
		tab.Accepted(9, 0)
		q := ParseRequest(req)
		tab.Begun(9, q.Kind)
		tab.Active(9, q.End, q.Kind)
		r.Begin(q.Kind)
		tab.Response(9, r.Write(head).End)
		tab.Boundary(9, 1, 2)
		tab.Close(9)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// All that one keep-alive request costs in stores.
func BenchmarkTableRequest(b *testing.B) {
	tab, _, _ := memory(b)
	tab.Accepted(9, 0)
	for i := uint64(0); b.Loop(); i++ {
		tab.Begun(9, Known)
		tab.Active(9, i, Known)
		tab.Response(9, i)
		tab.Boundary(9, i, i)
	}
}

func BenchmarkTableBoundary(b *testing.B) {
	tab, _, _ := memory(b)
	for i := uint64(0); b.Loop(); i++ {
		tab.Boundary(9, i, i)
	}
}

func BenchmarkTableConnection(b *testing.B) {
	tab, _, _ := memory(b)
	for b.Loop() {
		tab.Accepted(9, 0)
		tab.Close(9)
	}
}

func BenchmarkHeads(b *testing.B) {
	var r Response
	head := []byte("HTTP/1.1 200 OK\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
	req := []byte("GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n")
	for b.Loop() {
		q := ParseRequest(req)
		r.Begin(q.Kind)
		r.Write(head)
	}
}
