package pidfile

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
)

// File is a PID file whose lock this process holds, alone or together with
// other processes of the same service. Its methods may be called from many
// goroutines.
type File struct {
	path string

	mu   sync.Mutex
	lock *os.File  // nil: closed
	ours []int     // PIDs of this service that may be in the file
	next *prepared // nil: none
}

// Acquire takes the lock for path, and changes nothing else: a stale file stays
// until Write. A *HeldError tells that another instance runs.
func Acquire(path string) (*File, error) {
	path, err := absolute(path)
	if err != nil {
		return nil, err
	}
	lock, err := openLock(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, lock: lock, ours: []int{os.Getpid()}}, nil
}

// Adopt goes on with a lock that this process has inherited: lockFile is what
// LockFile was in its predecessor, or a duplicate of it. The File takes it over,
// also when Adopt fails. What the PID file names now counts as this service's.
func Adopt(path string, lockFile *os.File) (*File, error) {
	path, err := absolute(path)
	if err == nil {
		err = relock(path, lockFile)
	}
	if err != nil {
		lockFile.Close()
		return nil, err
	}
	f := &File{path: path, lock: lockFile, ours: []int{os.Getpid()}}
	if pid, err := Read(path); err == nil {
		f.ours = append(f.ours, pid)
	}
	return f, nil
}

// Path is the absolute path of the PID file.
func (f *File) Path() string { return f.path }

// Is reports whether path, absolute or not, names this PID file.
func (f *File) Is(path string) bool {
	path, err := absolute(path)
	return err == nil && path == f.path
}

// LockFile is what a successor needs for Adopt: still the File's, and
// close-on-exec. Ask for it anew for each successor, since Write may have to
// replace it; nil after Close.
func (f *File) LockFile() *os.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lock
}

// Prepare does what takes long in a Write of pid that may follow: its data reach
// the disk. Nothing is to be seen of that, now or if this process dies, and it
// can't fail: what it couldn't do is left to Write. It replaces what was prepared
// before; 0: by nothing.
func (f *File) Prepare(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != nil && f.next.pid == pid {
		return
	}
	f.drop()
	if pid > 0 && f.lock != nil {
		f.next, _ = prepare(f.path, pid)
	}
}

// drop forgets what was prepared.
func (f *File) drop() {
	if f.next != nil {
		f.next.close()
		f.next = nil
	}
}

// Write puts pid into the file, atomically: a reader sees the old content or
// the new one, and a symlink in its place is replaced, not followed. If
// somebody has removed the lock file, it is made again first; a *HeldError
// means that another instance was faster.
func (f *File) Write(pid int) error {
	if pid <= 0 {
		return fmt.Errorf("pidfile %s: %d is no PID", f.path, pid)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.keepLock(); err != nil {
		return err
	}
	if _, err := absolute(f.path); err != nil {
		return err
	}
	defer f.drop()
	if f.next == nil || f.next.pid != pid || f.next.put(f.path) != nil {
		if err := replace(f.path, content(pid)); err != nil {
			return explain(f.path, err)
		}
	}
	if !slices.Contains(f.ours, pid) {
		f.ours = append(f.ours, pid)
	}
	return nil
}

func content(pid int) []byte { return []byte(strconv.Itoa(pid) + "\n") }

// Restore sees to it that pid is in the file, and reports whether it had to
// write.
func (f *File) Restore(pid int) (wrote bool, err error) {
	if is, err := Read(f.path); err == nil && is == pid && f.held() {
		return false, nil
	}
	return true, f.Write(pid)
}

// Remove removes the file if it names a process of this service, and this
// process still holds the lock. It is no error if it is gone already; the lock
// file stays.
func (f *File) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return os.ErrClosed
	}
	pid, err := Read(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("left in place: %w", err)
	}
	if !slices.Contains(f.ours, pid) {
		return fmt.Errorf("pidfile %s: left in place: names pid %d, which is none of this service", f.path, pid)
	}
	if !sameAsPath(f.lock, lockPath(f.path)) {
		return fmt.Errorf("pidfile %s: left in place: its lock file was removed", f.path)
	}
	if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return explain(f.path, err)
	}
	return nil
}

// Close gives up this process's share of the lock. The file stays.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return nil
	}
	f.drop()
	lock := f.lock
	f.lock = nil
	return lock.Close()
}

func (f *File) held() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lock != nil && sameAsPath(f.lock, lockPath(f.path))
}

// keepLock takes the lock again if the file that we have locked is no longer
// the one that others would lock.
func (f *File) keepLock() error {
	if f.lock == nil {
		return os.ErrClosed
	}
	if sameAsPath(f.lock, lockPath(f.path)) {
		return nil
	}
	lock, err := openLock(f.path)
	if err != nil {
		return err
	}
	f.lock.Close()
	f.lock = lock
	return nil
}

func lockPath(path string) string { return path + ".lock" }
