package sd

// Received is a message as the manager gets it.
type Received struct {
	Message     // the descriptors are close-on-exec, and the receiver's
	PID     int // the sender, by the kernel's word (Linux; else 0)
	UID     int // of the sender (Linux; else -1)
	GID     int // of the sender (Linux; else -1)
	// Lost says that descriptors came with the message for which this process
	// had no room (RLIMIT_NOFILE); those that did arrive have been closed.
	Lost bool
}

// TakeFiles returns the descriptors, which are the caller's from then on.
func (r *Received) TakeFiles() []int {
	files := r.Files
	r.Files = nil
	return files
}

// Done must be called when the message has been processed: it closes the
// descriptors that nobody has taken, and thereby lets a sender go on who waits
// at a barrier.
func (r *Received) Done() {
	closeAll(r.TakeFiles())
}
