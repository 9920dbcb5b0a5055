package upgrader

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// kind is what a descriptor that travels from generation to generation is for.
type kind string

const (
	streams   kind = "stream"    // a listening socket
	packets   kind = "packet"    // a datagram socket
	userFiles kind = "file"      // of AddFile
	controls  kind = "control"   // the control socket
	locks     kind = "lock"      // the PID file's lock
	words     kind = "words"     // where the next process leaves its last words
	handovers kind = "handover"  // the link for live connections
	memories  kind = "memory"    // what the service manager keeps for one without a predecessor
	activated kind = "activated" // passed by the service manager: whatever it is
)

// key names a descriptor over generations. Equal requests (":0" twice) differ in
// Ord.
type key struct {
	Kind    kind   `json:"kind"`
	Name    string `json:"name,omitempty"`
	Network string `json:"network,omitempty"`
	Addr    string `json:"addr,omitempty"` // as it was asked for
	Ord     int    `json:"ord,omitempty"`
}

func (k key) String() string {
	s := k.Network + ":" + k.Addr
	if k.Name != "" {
		s = k.Name + "=" + s
	}
	return s
}

// item is one descriptor, with what is known of it.
type item struct {
	Key  key    `json:"key"`
	Path pathID `json:"path,omitzero"` // the socket file that belongs to it, if any
	// Stored: the service manager holds a duplicate.
	Stored bool `json:"stored,omitempty"`
	// Identity is the control socket's way to say the same.
	Identity string `json:"identity,omitempty"`

	file *os.File     // inherited, or of AddFile: ours
	conn syscall.Conn // a socket in use: its listener owns the descriptor
	gate gated        // of a socket in use; nil: not held back
}

// gated is a socket that is served only while this generation acts for the
// service.
type gated interface {
	Open() error
	Shut()
}

// inventory knows every descriptor that the next generation gets, and those that
// the last one gave and nobody has asked for yet.
type inventory struct {
	mu    sync.Mutex
	given []*item     // by the last generation, or by the service manager
	held  []*item     // in use, and for the next one
	asked map[key]int // how often, Ord being 0
	open  bool        // gates are
	past  bool        // gates were open, or were to be: they stay shut until this generation serves again
	paths []pathID    // of sockets that were closed: the file outlives them until the service ends
	drops []pathID    // of sockets that this generation didn't want: the file goes when the predecessor has ended
}

func newInventory() *inventory { return &inventory{asked: make(map[key]int)} }

// number makes k different from equal ones asked for before.
func (v *inventory) number(k key) key {
	n := v.asked[k]
	v.asked[k] = n + 1
	k.Ord = n
	return k
}

// claim returns the first given item for which fits is true, which is the
// caller's from then on; nil: there is none.
func (v *inventory) claim(fits func(*item) bool) *item {
	for i, it := range v.given {
		if fits(it) {
			v.given = append(v.given[:i:i], v.given[i+1:]...)
			return it
		}
	}
	return nil
}

// claimKey is claim for one that is known by its key.
func (v *inventory) claimKey(k key) *item {
	return v.claim(func(it *item) bool { return it.Key == k })
}

// hold registers an item for the next generation, in place of one with the same
// key.
func (v *inventory) hold(it *item) error {
	for i, old := range v.held {
		if old.Key == it.Key {
			old.close()
			v.held[i] = it
			return nil
		}
	}
	v.held = append(v.held, it)
	if v.open && it.gate != nil {
		return it.gate.Open()
	}
	return nil
}

// activate adds what the service manager has passed.
func (v *inventory) activate(sockets []sd.Socket) {
	for _, s := range sockets {
		v.given = append(v.given, &item{Key: key{Kind: activated, Name: s.Name}, file: s.File(), Stored: true})
	}
}

// release forgets an item whose socket was closed by its user.
func (v *inventory) release(it *item) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, h := range v.held {
		if h == it {
			v.held = append(v.held[:i:i], v.held[i+1:]...)
			v.paths = append(v.paths, it.Path)
			return
		}
	}
}

// openGates lets this generation serve, unless it is past that: a keeper may replace
// a worker while it begins.
func (v *inventory) openGates() error {
	return v.openThose(func(*item) bool { return true })
}

// openServing lets it serve all but the control socket.
func (v *inventory) openServing() error {
	return v.openThose(func(it *item) bool { return it.Key.Kind != controls })
}

// reopenGates lets it serve again, after shutGates.
func (v *inventory) reopenGates() error {
	v.mu.Lock()
	v.past = false
	v.mu.Unlock()
	return v.openGates()
}

func (v *inventory) openThose(wanted func(*item) bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.past {
		return nil
	}
	v.open = true
	var errs []error
	for _, it := range v.held {
		if it.gate != nil && wanted(it) {
			errs = append(errs, it.gate.Open())
		}
	}
	return errors.Join(errs...)
}

// shutGates makes this generation stop accepting, until reopenGates. When it returns
// nothing more is accepted or read.
func (v *inventory) shutGates() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open, v.past = false, true
	for _, it := range v.held {
		if it.gate != nil {
			it.gate.Shut()
		}
	}
}

// refuse makes the kernel refuse connections to sockets that the successor
// doesn't want.
func (v *inventory) refuse(unwanted []key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, it := range v.held {
		g, ok := it.gate.(interface{ Refuse() })
		if !ok {
			continue
		}
		for _, k := range unwanted {
			if it.Key == k {
				g.Refuse()
			}
		}
	}
}

// fileOf returns a duplicate of a file in use; nil, nil: there is none. Like
// claim, it needs the lock.
func (v *inventory) fileOf(k key) (*os.File, error) {
	for _, it := range v.held {
		if it.Key == k {
			return duplicate(it.file)
		}
	}
	return nil, nil
}

// unclaimed returns the keys of what was given and isn't wanted.
func (v *inventory) unclaimed() []key {
	v.mu.Lock()
	defer v.mu.Unlock()
	var keys []key
	for _, it := range v.given {
		keys = append(keys, it.Key)
	}
	return keys
}

// closeUnclaimed closes what was given and isn't wanted.
func (v *inventory) closeUnclaimed() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, it := range v.given {
		it.close()
		v.drops = append(v.drops, it.Path)
	}
	v.given = nil
}

// closeSockets closes this process's descriptors of all sockets in use.
func (v *inventory) closeSockets() {
	v.mu.Lock()
	held := append([]*item(nil), v.held...)
	v.mu.Unlock() // closing releases
	for _, it := range held {
		if c, ok := it.gate.(io.Closer); ok {
			c.Close()
		}
	}
}

// listening describes the sockets in use, for a status.
func (v *inventory) listening() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var list []string
	for _, it := range v.held {
		if it.Key.Kind != streams && it.Key.Kind != packets {
			continue
		}
		s := it.Key.Network + ":" + it.Key.Addr
		if a, ok := it.conn.(interface{ Addr() net.Addr }); ok {
			s = a.Addr().Network() + ":" + a.Addr().String()
		} else if a, ok := it.conn.(interface{ LocalAddr() net.Addr }); ok {
			s = a.LocalAddr().Network() + ":" + a.LocalAddr().String()
		}
		if it.Key.Name != "" {
			s = it.Key.Name + "=" + s
		}
		list = append(list, s)
	}
	return list
}

// removePaths unlinks the socket files that still are what we bound: the service
// has ended.
func (v *inventory) removePaths() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, it := range v.held {
		errs = append(errs, it.Path.remove())
	}
	for _, p := range append(v.paths, v.drops...) {
		errs = append(errs, p.remove())
	}
	return errors.Join(errs...)
}

// removeDropped unlinks the socket files that nobody listens on any more: the
// predecessor, which could have served there again, has ended.
func (v *inventory) removeDropped() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, p := range v.drops {
		errs = append(errs, p.remove())
	}
	v.drops = nil
	return errors.Join(errs...)
}

// descriptor calls f with the item's descriptor, which stays valid meanwhile.
func (it *item) descriptor(f func(fd int)) error {
	conn := it.conn
	if conn == nil {
		conn = it.file
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s: %w", it.Key, err)
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// close closes a file that is ours; sockets in use are their users'.
func (it *item) close() {
	if it.file != nil {
		it.file.Close()
	}
}

// storeName is a socket's name in the store.
func storeName(k key) string {
	return sd.NameOf(fmt.Sprintf("%s %s %d", k.Kind, k, k.Ord))
}
