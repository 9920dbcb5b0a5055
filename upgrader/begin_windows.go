package upgrader

// begin: nothing follows a process on Windows.
func (u *Upgrader) begin() error {
	u.generation = 1
	u.succession = none{}
	return nil
}
