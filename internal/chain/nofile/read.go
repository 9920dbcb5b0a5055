//go:build linux && (amd64 || arm64)

package nofile

// read returns 0, or a negative errno.
//
//go:noescape
func read(limits *[2]uint64) int
