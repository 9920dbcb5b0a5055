package serve

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// NextGeneration numbers processes in the order of their starts, whoever starts
// them: it adds one to the number in the file. The Node and Python programs do
// the same.
func NextGeneration(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return 0, fmt.Errorf("lock %s: %w", path, err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return 0, err
	}
	n := parse(b) + 1
	// Over the old one, which is no longer than this. Of a file that was truncated
	// ext4(5) writes the new content out when it is closed (auto_da_alloc): processes
	// with a predecessor would take half a millisecond more.
	_, err = f.WriteAt([]byte(strconv.Itoa(n)), 0)
	return n, err
}

// Generation is the number of the newest one; 0 before the first.
func Generation(path string) int {
	b, _ := os.ReadFile(path)
	return parse(b)
}

func parse(b []byte) int {
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}
