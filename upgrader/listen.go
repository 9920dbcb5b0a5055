package upgrader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/tablecloth-go/tablecloth/internal/gate"
)

// Listen returns a listener for stream sockets: network "tcp", "tcp4", "tcp6",
// "unix" or "unixpacket". It is looked for, in this order: among those of the
// generation before, asked for with the same arguments; among those that the
// service manager has passed (sd_listen_fds(3)), by its address; else it is
// bound anew, without Multipath TCP.
//
// It accepts only while this generation acts for the service: from Ready on
// until Exit. Meanwhile Accept blocks, and the socket stays as it is, with its
// backlog. To close it closes this process's descriptor alone; the path of a
// unix socket is removed when the service ends (Close after a stop).
func (u *Upgrader) Listen(network, addr string) (net.Listener, error) {
	return u.ListenNamed("", network, addr)
}

// ListenNamed is Listen for a socket which has a name over generations, and by
// which the service manager may know it (FileDescriptorName= of systemd): such a
// one is taken whatever its address.
func (u *Upgrader) ListenNamed(name, network, addr string) (net.Listener, error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "unix", "unixpacket":
	default:
		return nil, fmt.Errorf("upgrader: listen %s %s: %w", network, addr, net.UnknownNetworkError(network))
	}
	g, err := u.listen(key{Kind: streams, Name: name, Network: network, Addr: addr})
	if err != nil {
		u.succession.trouble(err)
		return nil, fmt.Errorf("upgrader: %w", err)
	}
	return g, nil
}

// listen finds or binds a stream socket, and registers it.
func (u *Upgrader) listen(k key) (*gate.Listener, error) {
	v := u.inventory
	v.mu.Lock()
	defer v.mu.Unlock()
	k = v.number(k)
	sock, from, err := u.streamSocket(k)
	if err != nil {
		return nil, err
	}
	if ul, ok := sock.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false) // the generations to come live on that path
	}
	g := gate.New(sock)
	it := &item{Key: k, Path: from.Path, Stored: from.Stored, conn: sock, gate: g}
	g.OnClose(func() { u.released(it) })
	return g, v.hold(it)
}

// released is when the user of a socket has closed it.
func (u *Upgrader) released(it *item) {
	u.inventory.release(it)
	if u.acts.Load() && u.Drain() == nil {
		u.succession.letGo(it) // at an end the next life of the service may want it
	}
}

// streamSocket returns the socket, and what is known of where it came from.
func (u *Upgrader) streamSocket(k key) (gate.Socket, item, error) {
	if it := u.inventory.find(k, matchListener); it != nil {
		defer it.file.Close()
		ln, err := net.FileListener(it.file)
		if err != nil {
			return nil, item{}, fmt.Errorf("take over %s: %w", k, err)
		}
		sock, ok := ln.(gate.Socket)
		if !ok {
			ln.Close()
			return nil, item{}, fmt.Errorf("take over %s: can't serve a %T", k, ln)
		}
		return sock, *it, nil
	}
	if ln := u.succession.foreignListener(k.Network, k.Addr); ln != nil {
		return ln, item{}, nil
	}
	ln, path, err := bindStream(k)
	return ln, item{Path: path}, err
}

func bindStream(k key) (gate.Socket, pathID, error) {
	if isUnix(k.Network) {
		if err := clearStale(k.Network, k.Addr); err != nil {
			return nil, pathID{}, fmt.Errorf("listen %s: %w", k, err)
		}
	}
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false) // the kernel's accounting of such connections is another
	ln, err := lc.Listen(context.Background(), k.Network, k.Addr)
	if err != nil {
		return nil, pathID{}, err
	}
	if isUnix(k.Network) {
		return ln.(gate.Socket), bound(k.Addr), nil
	}
	return ln.(gate.Socket), pathID{}, nil
}

// ListenPacket is Listen for datagram sockets: network "udp", "udp4", "udp6" or
// "unixgram". The result also has the methods of *net.UDPConn or *net.UnixConn.
// Its reads wait unless this generation acts for the service; datagrams that
// come meanwhile stay in the socket's buffer, for whichever generation reads.
func (u *Upgrader) ListenPacket(network, addr string) (net.PacketConn, error) {
	switch network {
	case "udp", "udp4", "udp6", "unixgram":
	default:
		return nil, fmt.Errorf("upgrader: listen %s %s: %w", network, addr, net.UnknownNetworkError(network))
	}
	v := u.inventory
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.number(key{Kind: packets, Network: network, Addr: addr})
	sock, from, err := u.packetSocket(k)
	if err != nil {
		u.succession.trouble(err)
		return nil, fmt.Errorf("upgrader: %w", err)
	}
	it := &item{Key: k, Path: from.Path, Stored: from.Stored}
	closed := func() { u.released(it) }
	switch c := sock.(type) {
	case *net.UDPConn:
		g := gate.NewUDP(c, closed)
		it.conn, it.gate = c, g
		return g, v.hold(it)
	case *net.UnixConn:
		g := gate.NewUnixgram(c, closed)
		it.conn, it.gate = c, g
		return g, v.hold(it)
	}
	sock.Close()
	return nil, fmt.Errorf("upgrader: listen %s: can't serve a %T", k, sock)
}

func (u *Upgrader) packetSocket(k key) (net.PacketConn, item, error) {
	if it := u.inventory.find(k, matchPacket); it != nil {
		defer it.file.Close()
		c, err := net.FilePacketConn(it.file)
		if err != nil {
			return nil, item{}, fmt.Errorf("take over %s: %w", k, err)
		}
		return c, *it, nil
	}
	if k.Network == "unixgram" {
		// Whether somebody reads from such a socket can be asked by a connect too.
		if err := clearStale(k.Network, k.Addr); err != nil {
			return nil, item{}, fmt.Errorf("listen %s: %w", k, err)
		}
		c, err := net.ListenUnixgram(k.Network, &net.UnixAddr{Name: k.Addr, Net: k.Network})
		if err != nil {
			return nil, item{}, err
		}
		return c, item{Path: bound(k.Addr)}, nil
	}
	c, err := net.ListenPacket(k.Network, k.Addr)
	return c, item{}, err
}

// find claims what was given for k: by the key, by the name that this service
// gave it in the manager's store, by the name that the manager gave, by the
// socket's own address.
func (v *inventory) find(k key, same func(key, *os.File) bool) *item {
	if it := v.claimKey(k); it != nil {
		return it
	}
	stored := storeName(k)
	if it := v.claim(func(it *item) bool { return it.Key.Kind == activated && it.Key.Name == stored }); it != nil {
		if isUnix(k.Network) {
			it.Path = bound(k.Addr) // ours, of an earlier life
		}
		return it
	}
	if k.Name != "" {
		// What the manager calls so. Of the generation before only a socket with
		// the same address is meant: the name says which server it is of.
		named := func(it *item) bool { return it.Key.Kind == activated && it.Key.Name == k.Name && it.of(k.Network) }
		if it := v.claim(func(it *item) bool { return named(it) && same(k, it.file) }); it != nil {
			return it
		}
		if it := v.claim(named); it != nil {
			return it
		}
	}
	return v.claim(func(it *item) bool {
		return it.fits(k.Kind) && same(k, it.file)
	})
}

// of reports whether a given socket is of a network's family: one server may have
// sockets of several under one name.
func (it *item) of(network string) bool {
	ln, err := net.FileListener(it.file)
	if err != nil {
		c, err := net.FilePacketConn(it.file)
		if err != nil {
			return false
		}
		defer c.Close()
		return sameFamily(network, c.LocalAddr())
	}
	defer ln.Close()
	if ul, ok := ln.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false)
	}
	return sameFamily(network, ln.Addr())
}

func sameFamily(network string, a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return strings.HasPrefix(network, "tcp")
	case *net.UDPAddr:
		return strings.HasPrefix(network, "udp")
	case *net.UnixAddr:
		return a.Net == network
	}
	return false
}

func (it *item) fits(k kind) bool { return it.Key.Kind == k || it.Key.Kind == activated }

// matchListener reports whether a given file is a listening socket at k's
// address.
func matchListener(k key, f *os.File) bool {
	ln, err := net.FileListener(f)
	if err != nil {
		return false
	}
	defer ln.Close()
	if ul, ok := ln.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false)
	}
	return sameAddr(k, ln.Addr())
}

// matchPacket is matchListener for datagram sockets.
func matchPacket(k key, f *os.File) bool {
	c, err := net.FilePacketConn(f)
	if err != nil {
		return false
	}
	defer c.Close()
	return sameAddr(k, c.LocalAddr())
}

// sameAddr reports whether a socket bound to have is what k asks for.
func sameAddr(k key, have net.Addr) bool {
	switch a := have.(type) {
	case *net.TCPAddr:
		want, err := net.ResolveTCPAddr(k.Network, k.Addr)
		return err == nil && want.Port != 0 && want.Port == a.Port && sameIP(k.Network, want.IP, a.IP)
	case *net.UDPAddr:
		want, err := net.ResolveUDPAddr(k.Network, k.Addr)
		return err == nil && want.Port != 0 && want.Port == a.Port && sameIP(k.Network, want.IP, a.IP)
	case *net.UnixAddr:
		return a.Net == k.Network && a.Name != "" && a.Name == k.Addr
	}
	return false
}

// sameIP: a socket on [::] serves a wish for any address, unless that is for the
// other family.
func sameIP(network string, want, have net.IP) bool {
	v4, v6 := have.To4() != nil, have.To4() == nil
	if last := network[len(network)-1]; last == '4' && !v4 || last == '6' && !v6 {
		return false
	}
	if len(want) == 0 || want.IsUnspecified() {
		return have.IsUnspecified()
	}
	return want.Equal(have)
}

// AddFile gives f to the generations to come, under a name, in place of an
// earlier one of that name. A duplicate is kept: f stays the caller's.
func (u *Upgrader) AddFile(name string, f *os.File) error {
	if name == "" {
		return errors.New("upgrader: a file for the next generation needs a name")
	}
	dup, err := duplicate(f)
	if err != nil {
		return fmt.Errorf("upgrader: duplicate file %s: %w", name, err)
	}
	v := u.inventory
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.hold(&item{Key: key{Kind: userFiles, Name: name}, file: dup})
}

// File returns a duplicate of what an earlier generation gave to AddFile, or the
// service manager under that name; nil, nil: nothing. Whatever was given and
// nobody asks for before Ready is closed then. The generations to come get it
// too.
func (u *Upgrader) File(name string) (*os.File, error) {
	v := u.inventory
	v.mu.Lock()
	defer v.mu.Unlock()
	k := key{Kind: userFiles, Name: name}
	if f, err := v.fileOf(k); f != nil || err != nil {
		return f, err
	}
	it := v.claimKey(k)
	if it == nil {
		it = v.claim(func(it *item) bool { return it.Key.Kind == activated && it.Key.Name == name })
	}
	if it == nil {
		return nil, nil
	}
	it.Key = k
	if err := v.hold(it); err != nil {
		return nil, err
	}
	return duplicate(it.file)
}
