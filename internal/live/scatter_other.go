//go:build !linux

package live

// scatter is for what only Linux has: connections that outlive their process.
type scatter struct{}

func (scatter) read(s socket, _, p []byte) (int, error) { return s.Read(p) }
