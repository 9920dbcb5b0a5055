package live

import (
	"net"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// Of very many connections the oldest are described, and no more than it takes to
// find them.
func TestOldestHoldouts(t *testing.T) {
	const many, most = 10_000, 16
	nc := someConn(t)
	table := New(Config{Name: "web"})
	for i := range many {
		_, c := table.wrap(nc)
		c.since.Store(int64(i))
		table.add(c)
	}
	var h Holdouts
	n := testing.AllocsPerRun(1, func() {
		h = Holdouts{Most: most}
		table.Holdouts(&h)
	})
	if n > many/10 {
		t.Errorf("%v allocations for the %d oldest of %d", n, most, many)
	}
	if h.All != many || len(h.Oldest) != most {
		t.Fatalf("%d of %d holdouts", len(h.Oldest), h.All)
	}
	for i, c := range h.Oldest {
		if !c.Since.Equal(at(int64(i))) {
			t.Errorf("number %d has been open since %v", i, c.Since)
		}
	}
}

// A client can't make a description so long that a status with it travels nowhere.
func TestLongRequestIsCut(t *testing.T) {
	table := New(Config{Name: "web"})
	_, c := table.wrap(someConn(t))
	table.add(c)
	Handle{c}.Note(&Request{Method: "GET", URI: "/" + strings.Repeat("é", 100_000)})
	h := Holdouts{Most: 1}
	table.Holdouts(&h)
	got := h.Oldest[0].Request
	if len(got) > 1000 || !strings.HasPrefix(got, "GET /éé") || !utf8.ValidString(got) {
		t.Errorf("%d bytes: %.300q", len(got), got)
	}
}

// someConn is one end of a connection.
func someConn(t *testing.T) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.DialTimeout("tcp", ln.Addr().String(), proctest.Patience(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}
