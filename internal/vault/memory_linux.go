package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// seals keep the table's size, which the keeper relies on.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// newMemory makes a table with a line for every descriptor that this process
// may ever have, by its hard limit. Only the pages in use exist.
func newMemory() (*os.File, *Table, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return nil, nil, err
	}
	size := int(min(max(lim.Max, 64), maxLines)) * lineSize
	fd, err := unix.MemfdCreate("tablecloth-table", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "table")
	mem, err := mapMemory(fd, size)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, newTable(mem), nil
}

func mapMemory(fd, size int) ([]byte, error) {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("ftruncate: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return mem, nil
}

// View is the keeper's side of a table. It reads the file and never maps it: the
// worker isn't trusted with the keeper's address space, and reading a hole
// doesn't fill it.
type View struct {
	f     *os.File
	lines int
}

// NewView takes a worker's memory, and checks that it is a table.
func NewView(f *os.File) (*View, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := fi.Size()
	if size < lineSize || size%lineSize != 0 || size > maxLines*lineSize {
		return nil, fmt.Errorf("table of %d bytes", size)
	}
	has, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || has&seals != seals {
		return nil, errors.New("table isn't sealed")
	}
	var first [lineSize]byte
	if _, err := f.ReadAt(first[:], 0); err != nil {
		return nil, err
	}
	if binary.NativeEndian.Uint64(first[8:]) != magic {
		return nil, errors.New("table of another version")
	}
	return &View{f, int(size / lineSize)}, nil
}

// Lines returns the lines that aren't Free, by descriptor.
func (v *View) Lines() ([]Line, error) {
	var lines []Line
	buf := make([]byte, 64<<10)
	size := int64(v.lines) * lineSize
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(v.f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only holes are left
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("table: %w", err)
		}
		at = data - data%lineSize
		n := min(int64(len(buf)), size-at)
		if _, err := v.f.ReadAt(buf[:n], at); err != nil {
			return nil, fmt.Errorf("table: %w", err)
		}
		lines = appendLines(lines, buf[:n], int(at/lineSize))
		at += n
	}
	return lines, nil
}

func appendLines(lines []Line, b []byte, fd int) []Line {
	for ; len(b) >= lineSize; b, fd = b[lineSize:], fd+1 {
		if l := parseLine(b, fd); l.State != Free {
			lines = append(lines, l)
		}
	}
	return lines
}

// parseLine reads the memory of a line; see its type for the offsets.
func parseLine(b []byte, fd int) Line {
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	act := u32(b[4:])
	return Line{
		FD:      fd,
		State:   State(u32(b)),
		Running: act&actRunning != 0,
		Last:    act&actLast != 0,
		Kind:    Kind(act & kindMask),
		BRX:     u64(b[8:]),
		BTX:     u64(b[16:]),
		End:     u64(b[24:]),
		ReqEnd:  u64(b[32:]),
		Alt:     u64(b[40:]),
		Server:  u32(b[48:]),
		First:   [maxFirst]byte(b[52:]),
	}
}
