//go:build unix

package upgrader

// begin finds out how this process was started.
func (u *Upgrader) begin() error {
	k, err := newKept(u)
	if err != nil {
		return err
	}
	if k != nil {
		u.succession, u.kept = k, true
		return nil
	}
	a, err := newAlone(u)
	if a != nil {
		u.succession = a
	}
	return err
}
