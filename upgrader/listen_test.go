//go:build unix

package upgrader

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// activate hands sockets to a Plain upgrader as a service manager would.
func activatePlain(t *testing.T, files map[string]*os.File) *Upgrader {
	t.Helper()
	u := Plain()
	t.Cleanup(func() { u.Close() })
	for name, f := range files {
		dup, err := duplicate(f)
		if err != nil {
			t.Fatal(err)
		}
		u.inventory.given = append(u.inventory.given, &item{Key: key{Kind: activated, Name: name}, file: dup, Stored: true})
		f.Close()
	}
	return u
}

func fileOf(t *testing.T, l any) *os.File {
	t.Helper()
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSocketsOfTheManagerAreFound(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	any6, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	unix.(*net.UnixListener).SetUnlinkOnClose(false)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	u := activatePlain(t, map[string]*os.File{"web": fileOf(t, tcp), "x": fileOf(t, any6), "y": fileOf(t, unix), "z": fileOf(t, udp)})
	tcp.Close()
	any6.Close()
	unix.Close()
	udp.Close()

	// By name, whatever the address, but for its family; by address, whatever the
	// name.
	other := filepath.Join(t.TempDir(), "other")
	if l, err := u.ListenNamed("web", "unix", other); err != nil || l.Addr().String() != other {
		t.Fatalf("by name: %v, %v; want %v", l, err, other)
	}
	byName, err := u.ListenNamed("web", "tcp", ":1")
	if err != nil || byName.Addr().String() != tcp.Addr().String() {
		t.Fatalf("by name: %v, %v; want %v", byName, err, tcp.Addr())
	}
	_, port, _ := net.SplitHostPort(any6.Addr().String())
	byPort, err := u.Listen("tcp", ":"+port)
	if err != nil || byPort.Addr().String() != any6.Addr().String() {
		t.Fatalf("by port: %v, %v; want %v", byPort, err, any6.Addr())
	}
	byPath, err := u.Listen("unix", path)
	if err != nil || byPath.Addr().String() != path {
		t.Fatalf("by path: %v, %v", byPath, err)
	}
	packet, err := u.ListenPacket("udp", udp.LocalAddr().String())
	if err != nil || packet.LocalAddr().String() != udp.LocalAddr().String() {
		t.Fatalf("by UDP address: %v, %v", packet, err)
	}
	if left := u.inventory.unclaimed(); len(left) != 0 {
		t.Errorf("not found: %v", left)
	}
	if err := u.Ready(); err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{byName, byPort, byPath} {
		c, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if c, err := l.Accept(); err != nil {
			t.Fatal(err)
		} else {
			c.Close()
		}
	}
}

func TestSameAddr(t *testing.T) {
	tcp := func(s string) net.Addr { a, _ := net.ResolveTCPAddr("tcp", s); return a }
	for _, c := range []struct {
		network, want string
		have          net.Addr
		same          bool
	}{
		{"tcp", ":80", tcp("[::]:80"), true},
		{"tcp", ":80", tcp("0.0.0.0:80"), true},
		{"tcp", "0.0.0.0:80", tcp("[::]:80"), true},
		{"tcp", "127.0.0.1:80", tcp("127.0.0.1:80"), true},
		{"tcp", "127.0.0.1:80", tcp("[::]:80"), false},
		{"tcp", ":80", tcp("127.0.0.1:80"), false},
		{"tcp", ":80", tcp("[::]:81"), false},
		{"tcp4", ":80", tcp("0.0.0.0:80"), true},
		{"tcp4", ":80", tcp("[::]:80"), false},
		{"tcp6", ":80", tcp("0.0.0.0:80"), false},
		{"tcp", ":0", tcp("[::]:81"), false},
		{"tcp", "nonsense", tcp("[::]:81"), false},
		{"unix", "/a", &net.UnixAddr{Name: "/a", Net: "unix"}, true},
		{"unixpacket", "/a", &net.UnixAddr{Name: "/a", Net: "unix"}, false},
		{"unix", "", &net.UnixAddr{Name: "", Net: "unix"}, false},
	} {
		if got := sameAddr(key{Network: c.network, Addr: c.want}, c.have); got != c.same {
			t.Errorf("%s %s is %v: %v", c.network, c.want, c.have, got)
		}
	}
}

func TestListenRefusesWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "live")
	ln, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	stale := filepath.Join(dir, "stale")
	old, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u := Plain()
	defer u.Close()
	for _, c := range []struct{ network, addr, want string }{
		{"unix", live, "another server listens there"},
		{"unix", file, "is no socket"},
		{"unix", dir, "is no socket"},
		{"udp", "127.0.0.1:0", "unknown network"},
		{"tcp", "127.0.0.1:port", "lookup"},
	} {
		if _, err := u.Listen(c.network, c.addr); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("listen %s %s: %v, want %q", c.network, c.addr, err, c.want)
		}
	}
	if !exists(live) || !exists(file) {
		t.Error("something that is in use was removed")
	}
	if _, err := u.Listen("unix", stale); err != nil {
		t.Errorf("a stale socket is in the way: %v", err)
	}
}

// A socket file is removed at the end of the service, unless it is another's.
func TestUnixPathsAreRemovedAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	u := Plain()
	for _, path := range []string{ours, theirs} {
		if _, err := u.Listen("unix", path); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.Ready(); err != nil {
		t.Fatal(err)
	}
	os.Remove(theirs)
	ln, err := net.Listen("unix", theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	u.Stop()
	<-u.Exit()
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if exists(ours) || !exists(theirs) {
		t.Errorf("ours is there: %v; theirs is there: %v", exists(ours), exists(theirs))
	}
}

func TestStoreNamesDiffer(t *testing.T) {
	seen := make(map[string]key)
	for _, k := range []key{
		{Kind: streams, Network: "tcp", Addr: ":0"}, {Kind: streams, Network: "tcp", Addr: ":0", Ord: 1},
		{Kind: packets, Network: "tcp", Addr: ":0"}, {Kind: streams, Name: "tcp", Addr: ":0"},
		{Kind: streams, Name: "a", Network: "tcp", Addr: ":0"}, memoryKey,
		{Kind: streams, Network: "unix", Addr: strings.Repeat("x", 300)}, {Kind: streams, Network: "unix", Addr: strings.Repeat("x", 301)},
	} {
		name := storeName(k)
		if other, ok := seen[name]; ok || !sd.ValidName(name) {
			t.Errorf("%+v and %+v are both %q", k, other, name)
		}
		seen[name] = k
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
