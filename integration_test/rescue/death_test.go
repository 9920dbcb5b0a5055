//go:build linux

package rescue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// active waits until so many requests are being served.
func (b *bed) active(n int) {
	b.t.Helper()
	proctest.Check(b.t, func() error {
		found := 0
		for _, g := range b.status().Generations {
			for _, w := range g.Workers {
				if w.Conns != nil {
					found += w.Conns.Active
				}
			}
		}
		if found < n {
			return fmt.Errorf("%d requests are being served, not %d", found, n)
		}
		return nil
	})
}

// TestDeaths: of whatever a worker dies, idle connections go on and requests are
// answered.
func TestDeaths(t *testing.T) {
	t.Parallel()
	for cause := range deaths {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.service().Limits = []string{"core=0"}
			b.races = cause == "map"
			b.start()
			was := b.worker(0)
			var idle []*raw
			for range 20 {
				idle = append(idle, b.raw())
				if g := idle[len(idle)-1].works(); g != "1" {
					t.Fatalf("generation %s", g)
				}
			}
			fresh := b.raw()
			resp, body, err := b.ask("POST", "/die?of="+cause)
			if err != nil || resp.StatusCode != 500 || !resp.Close || resp.Header.Get("Date") == "" {
				t.Errorf("its request got %+v, %q, %v", resp, body, err)
			}
			b.worker(was)
			for _, c := range append(idle, fresh) {
				if g := c.works(); g != "2" {
					t.Errorf("generation %s answers", g)
				}
			}
			e := b.await(control.EventRescue, 0)
			if e.Counts["idle"] < 20 || e.Counts["500"] != 1 || e.Counts["lost"] != 0 {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestWhatEachRequestGets when its worker is killed.
func TestWhatEachRequestGets(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	page := filepath.Join(b.dir, "sorry.html")
	if err := os.WriteFile(page, []byte("<h1>sorry</h1>"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.service().CrashPage = page
	b.service().Listen = append(b.service().Listen, "greeter=127.0.0.1:0")
	b.set.Others = []string{"127.0.0.1:0"}
	b.start()

	get, head, old, half := b.raw(), b.raw(), b.raw(), b.raw()
	get.send("GET /hang HTTP/1.1\r\nHost: test\r\n\r\n")
	head.send("HEAD /hang HTTP/1.1\r\nHost: test\r\n\r\n")
	old.send("GET /hang HTTP/1.0\r\n\r\n")
	half.send("GET /half HTTP/1.1\r\nHost: test\r\n\r\n")
	part := half.part()
	begun := b.raw()
	begun.send("GET / HTTP/1.1\r\nHost: te")
	greeted := b.greeted()
	b.active(4)
	begun.taken()
	b.kill()

	resp, body := get.answer("GET")
	if resp.StatusCode != 500 || body != "<h1>sorry</h1>" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") ||
		!resp.Close || resp.ProtoMinor != 1 {
		t.Errorf("%+v %q", resp, body)
	}
	get.end()
	if resp, _ = head.answer("HEAD"); resp.StatusCode != 500 || resp.ContentLength != int64(len(body)) {
		t.Errorf("%+v", resp)
	}
	head.end()
	if resp, _ = old.answer("GET"); resp.StatusCode != 500 || resp.ProtoMinor != 0 {
		t.Errorf("%+v", resp)
	}
	old.end()
	if rest, err := io.ReadAll(half.br); err != nil || string(part)+string(rest) != "the first part" {
		t.Errorf("half an answer ends with %q, %v", rest, err)
	}
	if resp, _ = begun.answer("GET"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%+v", resp)
	}
	begun.end()
	if rest, err := io.ReadAll(greeted); err != nil || string(rest) != "hello\n" {
		t.Errorf("a connection of another kind ends with %q, %v", rest, err)
	}
	r := b.status().Rescued
	if r == nil || r.S500 != 3 || r.S503 != 1 || r.Cut != 1 || r.Closed != 1 || r.Lost != 0 {
		t.Errorf("%+v", r)
	}
}

// part reads the head of an answer, and what there is of its body.
func (r *raw) part() []byte {
	r.t.Helper()
	for {
		line, err := r.br.ReadString('\n')
		if err != nil {
			r.t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	part := make([]byte, 5)
	if _, err := io.ReadFull(r.br, part); err != nil {
		r.t.Fatal(err)
	}
	return part
}

// greeted is a connection of the other service, on which more has come than was
// read.
func (b *bed) greeted() net.Conn {
	b.t.Helper()
	listen := b.status().Listen
	_, addr, _ := strings.Cut(listen[len(listen)-1], "tcp:")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "nobody reads this")
	return c
}

// TestWhatElseItHeld is released before the next generation runs: a lock, a port,
// a session of a database, say.
func TestWhatElseItHeld(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go database(ln)
	b := newBed(t)
	b.set.Holds, b.set.Lock, b.set.Session = true, filepath.Join(b.dir, "lock"), ln.Addr().String()
	b.start()
	for range soak(3, 30) {
		c := b.raw()
		c.works()
		b.kill()
		c.works()
	}
	if s := b.status(); s.Restarts != soak(3, 30) {
		t.Errorf("%d restarts: what was held was not free at once\n%+v", s.Restarts, s)
	}
}

// database lets in one at a time.
func database(ln net.Listener) {
	var last net.Conn
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		reply := "+"
		if last != nil {
			// On a busy machine even a loopback's FIN takes a while. The lock and the
			// port have no such patience.
			last.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, last); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				reply = "-"
			}
			last.Close()
		}
		io.WriteString(c, reply)
		last = c
	}
}

// TestCleanEndsLeaveNothing: neither upgrades nor a stop leave a vault, a zombie
// or a descriptor.
func TestCleanEndsLeaveNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.start()
	c := b.raw()
	c.works()
	before := 0
	for i := range soak(4, 50) {
		o, err := b.client.Upgrade(b.ctx(), control.UpgradeRequest{})
		if err != nil || o.Result != control.Ready {
			t.Fatalf("%+v, %v", o, err)
		}
		b.settled()
		c.works()
		if n := b.named("tc-vault"); len(n) != 1 {
			t.Errorf("%d vaults", len(n))
		}
		switch n := descriptors(b.cmd.Process.Pid); {
		case i == 0:
			before = n
		case n > before:
			t.Errorf("%d descriptors, %d before", n, before)
		}
	}
	b.end()
}

// settled waits until nothing drains.
func (b *bed) settled() {
	b.t.Helper()
	proctest.Check(b.t, func() error {
		if s := b.status(); len(s.Generations) > 1 || len(b.named("tc-vault")) > 1 {
			return fmt.Errorf("a generation doesn't end: %+v", s)
		}
		return nil
	})
}

func descriptors(pid int) int {
	names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(names)
}

// TestTheVaultIsKilled, alone: the service goes on, and says that there is no net
// any more, until the next generation.
func TestTheVaultIsKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.start()
	c := b.raw()
	c.works()
	for _, pid := range b.named("tc-vault") {
		proctest.Kill(pid, syscall.SIGKILL)
	}
	b.note("rescue: off", true)
	if g := c.works(); g != "1" {
		t.Errorf("generation %s", g)
	}
	b.kill()
	b.note("rescue: off", false)
	d := b.raw()
	d.works()
	b.kill()
	if g := d.works(); g != "3" {
		t.Errorf("generation %s", g)
	}
}

// note waits until status has, or doesn't have, such a note.
func (b *bed) note(text string, want bool) {
	b.t.Helper()
	proctest.Check(b.t, func() error {
		if all := strings.Join(b.status().Notes, "\n"); strings.Contains(all, text) != want {
			return fmt.Errorf("notes: %s", all)
		}
		return nil
	})
}

// TestTheKeeperIsKilled: its worker finishes what it serves, the vault ends.
func TestTheKeeperIsKilled(t *testing.T) {
	t.Parallel()
	for _, with := range []string{"alone", "with its worker"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.start()
			path := "/slow?ms=3000"
			if with != "alone" {
				path = "/hang"
			}
			c := b.asked("GET", path)
			b.active(1)
			if worker := b.worker(0); with != "alone" {
				proctest.Kill(worker, syscall.SIGKILL)
			}
			proctest.Kill(b.cmd.Process.Pid, syscall.SIGKILL)
			<-b.waited
			if with == "alone" {
				if resp, _ := c.answer("GET"); resp.StatusCode != 200 {
					t.Errorf("%+v", resp)
				}
			} else if data, _ := io.ReadAll(c.br); bytes.Contains(data, []byte(" 200 ")) {
				t.Errorf("%q", data) // who could have sent that?
			}
			b.end() // finds nobody
		})
	}
}
