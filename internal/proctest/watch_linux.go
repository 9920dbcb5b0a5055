package proctest

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watching is one inotify instance for all logs, as a user may have few of them.
var watching = sync.OnceValues(func() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	w := &inotify{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, bells: map[int]*bell{}}
	go w.listen()
	return w, nil
})

type inotify struct {
	file  *os.File
	fd    int
	mu    sync.Mutex
	bells map[int]*bell
}

// watchFile rings whenever something has been written to a file.
func watchFile(path string, b *bell) (watch int, err error) {
	w, err := watching()
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if watch, err = unix.InotifyAddWatch(w.fd, path, unix.IN_MODIFY); err == nil {
		w.bells[watch] = b
	}
	return watch, os.NewSyscallError("inotify_add_watch", err)
}

func unwatchFile(watch int) {
	w, _ := watching()
	w.mu.Lock()
	defer w.mu.Unlock()
	unix.InotifyRmWatch(w.fd, uint32(watch))
	delete(w.bells, watch)
}

func (w *inotify) listen() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			watch := int32(binary.NativeEndian.Uint32(rest))
			length := binary.NativeEndian.Uint32(rest[12:])
			rest = rest[unix.SizeofInotifyEvent+length:]
			if watch < 0 { // some were lost
				for _, b := range w.bells {
					b.ring()
				}
			}
			if b := w.bells[int(watch)]; b != nil {
				b.ring()
			}
		}
		w.mu.Unlock()
	}
}
