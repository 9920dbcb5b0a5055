package upgrader

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// controlSocket is the service's control socket while this generation has it.
// It is one of the sockets that travel, and accepts when they do.
type controlSocket struct {
	listener *control.Listener
	gate     *gate.Listener
	server   *control.Server
}

// openControl takes the control socket over, or makes it.
func (u *Upgrader) openControl() error {
	if u.o.Control == "" || u.kept || u.control != nil {
		return nil
	}
	v := u.inventory
	v.mu.Lock()
	defer v.mu.Unlock()
	k := key{Kind: controls, Network: "unix", Addr: u.o.Control}
	ln, err := u.controlListener(k)
	if err != nil {
		return err
	}
	g := gate.New(ln)
	cs := &controlSocket{listener: ln, gate: g, server: &control.Server{Backend: backend{u}, Events: u.events}}
	it := &item{Key: k, Identity: ln.Identity(), conn: ln.UnixListener, gate: g}
	u.control = cs
	go cs.server.Serve(g)
	return v.hold(it)
}

func (u *Upgrader) controlListener(k key) (*control.Listener, error) {
	it := u.inventory.claimKey(k)
	if it == nil {
		return control.Listen(u.o.Control, control.ListenOptions{})
	}
	defer it.file.Close()
	ln, err := net.FileListener(it.file)
	if err != nil {
		return nil, err
	}
	ul, ok := ln.(*net.UnixListener)
	if !ok {
		ln.Close()
		return nil, errors.New("the inherited control socket is none")
	}
	return control.Adopt(ul, u.o.Control, control.ListenOptions{Identity: it.Identity})
}

const (
	// lastAnswers bounds how long the end of the service waits for answers that are
	// being written to its control socket.
	lastAnswers = 200 * time.Millisecond
	// lastRequests bounds how long a generation that was replaced waits for requests
	// on connections that it has accepted: the next generation can't read them.
	lastRequests = 5 * time.Second
)

// closeControl ends the control socket; last: the service has ended.
func (u *Upgrader) closeControl(last bool) {
	if u.control == nil {
		return
	}
	wait := lastRequests
	if last {
		wait = lastAnswers
		u.control.listener.Remove()
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	u.control.server.Shutdown(ctx)
	u.control.server.Close()
	u.control.gate.Close()
}
