//go:build !linux

package gate

func unlisten(Socket) bool { return false }

func relisten(Socket) error { return nil }
