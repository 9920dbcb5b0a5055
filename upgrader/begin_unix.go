//go:build unix

package upgrader

// begin finds out how this process was started.
func (u *Upgrader) begin() error {
	a, err := newAlone(u)
	if a != nil {
		u.succession = a
	}
	return err
}
