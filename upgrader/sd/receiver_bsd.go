//go:build unix && !linux

package sd

import (
	"crypto/rand"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const hasCredentials = false

func randomAddress() string {
	return filepath.Join(os.TempDir(), "tablecloth-"+rand.Text())
}

func passCredentials(int) error { return nil }

func (*Received) credentials(*unix.SocketControlMessage) bool { return false }
