package sd

import (
	"crypto/rand"

	"golang.org/x/sys/unix"
)

const hasCredentials = true

func randomAddress() string { return "@tablecloth/notify/" + rand.Text() }

func passCredentials(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
}

// credentials reports whether c names a sender: one outside our PID namespace
// has the PID 0.
func (r *Received) credentials(c *unix.SocketControlMessage) bool {
	if c.Header.Type != unix.SCM_CREDENTIALS {
		return false
	}
	cred, err := unix.ParseUnixCredentials(c)
	if err != nil || cred.Pid <= 0 {
		return false
	}
	r.PID, r.UID, r.GID = int(cred.Pid), int(cred.Uid), int(cred.Gid)
	return true
}
