package keeper

import (
	"reflect"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// design is what a service is to be: its definition, and what was opened for that.
type design struct {
	conf    *Service
	sockets []*socket
	pidfile *pidfile.File // of the workers; nil: none
}

// install makes a design count.
func (s *service) install(d *design) {
	elsewhere := d.pidfile != s.pidfile
	s.conf, s.sockets, s.pidfile = d.conf, d.sockets, d.pidfile
	if pid := s.acting(control.Outcome{}).PID; elsewhere && pid != 0 {
		s.a.os.announce(notice{kind: "pidfile", pidfile: d.pidfile, worker: pid})
	}
	s.a.later = append(s.a.later, s.a.letGo)
}

// holdings are the sockets and PID files that the keeper has opened, or was given,
// for its services.
type holdings struct {
	sockets  []*socket
	pidfiles []*pidfile.File
	wanted   []*design // by a change of the configuration that is under way
}

// letGo closes what no service wants any more.
func (a *actor) letGo() {
	sockets, pidfiles := map[*socket]bool{}, map[*pidfile.File]bool{}
	want := func(d *design) {
		pidfiles[d.pidfile] = true
		for _, k := range d.sockets {
			sockets[k] = true
		}
	}
	for _, d := range a.held.wanted {
		want(d)
	}
	for _, s := range a.services {
		if s.leaving {
			pidfiles[s.pidfile] = true // its workers still are what it says
			continue
		}
		want(&design{s.conf, s.sockets, s.pidfile})
		for _, d := range s.designs {
			want(d)
		}
	}
	var gone []*socket
	a.held.sockets = slices.DeleteFunc(a.held.sockets, func(k *socket) bool {
		if !sockets[k] {
			gone = append(gone, k)
		}
		return !sockets[k]
	})
	a.closeSockets(gone)
	a.held.pidfiles = slices.DeleteFunc(a.held.pidfiles, func(f *pidfile.File) bool {
		if !pidfiles[f] {
			a.os.announce(notice{kind: "forget", pidfile: f}) // in its turn: it may be about to be written
		}
		return !pidfiles[f]
	})
}

// closeSockets closes some that aren't among those held any more. Another one may
// have the same path, or name.
func (a *actor) closeSockets(gone []*socket) {
	for _, k := range gone {
		same := func(f func(*socket) bool) bool { return slices.ContainsFunc(a.held.sockets, f) }
		if !same(func(o *socket) bool { return o.name == k.name }) {
			a.os.announce(notice{kind: "store", remove: []string{k.name}})
		}
		k.close(!same(func(o *socket) bool { return o.path == k.path }))
	}
}

// alias is the same socket under another name.
func (s *socket) alias(a address) (*socket, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	c, err := hold(fd, sd.NameOf(a.key()))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	c.listen, c.path, c.asked = s.listen, s.path, a
	if a.name != "" {
		c.label = a.name + "="
	}
	return c, nil
}

// sameAs reports whether two definitions mean the same, but perhaps for the
// number of workers.
func (c *Service) sameAs(o *Service) bool {
	a, b := *c, *o
	a.Workers, b.Workers = 0, 0
	return reflect.DeepEqual(&a, &b)
}
