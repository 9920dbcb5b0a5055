package pidfile

import (
	"os"
)

// openLock has no lock to take on Windows, where no process follows another one
// with its files.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(lockPath(path), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, explain(path, err)
	}
	return f, nil
}

func relock(string, *os.File) error { return nil }

func sameAsPath(*os.File, string) bool { return true }

func replace(path string, data []byte) error { return os.WriteFile(path, data, 0o644) }

func readOnly(error) bool { return false }
