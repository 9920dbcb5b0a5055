package show

import (
	"io"
	"net"
	"os"
	"sync"
)

// hold is what the service's processes live by. A pipe as their standard input
// would do for a service that replaces itself, but not under a keeper, whose
// workers have none.
type hold struct {
	ln    net.Listener
	mu    sync.Mutex
	conns []net.Conn
	ended bool
}

func newHold(path string) (*hold, error) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	h := &hold{ln: ln}
	go h.accept()
	return h, nil
}

func (h *hold) accept() {
	for {
		c, err := h.ln.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.ended {
			c.Close()
		} else {
			h.conns = append(h.conns, c)
		}
		h.mu.Unlock()
	}
}

// close ends all processes, also those that are about to start.
func (h *hold) close() {
	h.ln.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for _, c := range h.conns {
		c.Close()
	}
}

// liveBy ends this process when the show is over, however that ended.
func liveBy(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, c)
		os.Exit(1)
	}()
	return nil
}
