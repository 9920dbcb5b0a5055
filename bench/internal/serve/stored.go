package serve

import (
	"net"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// stored has systemd hold its socket, in the descriptor store, and gets it from
// there after the first time.
func stored(o Options) error {
	env := sd.Take()
	manager, err := env.Notifier()
	if err != nil {
		return err
	}
	sockets, err := env.Sockets()
	if err != nil {
		return err
	}
	var ln net.Listener
	if len(sockets) > 0 {
		f := sockets[0].File()
		defer f.Close()
		ln, err = net.FileListener(f)
	} else {
		ln, err = bound(o.Addr, manager)
	}
	if err != nil {
		return err
	}
	if err := manager.Ready(); err != nil {
		return err
	}
	return untilTerm(o, ln)
}

func bound(addr string, manager *sd.Notifier) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ln, manager.FDStore("web", int(f.Fd()))
}
