// Package nofile knows the limit of open files (RLIMIT_NOFILE) that this process
// was started with. Package syscall raises it when it is initialised, and lowers
// it again for the programs that it starts itself, but doesn't tell.
//
// So this package must come before: it imports nothing, and packages that could
// be initialised are in the order of their import paths (The Go Programming
// Language Specification, "Program initialization").
package nofile

// Soft and Hard are the limits at the start; 0: not known.
var Soft, Hard uint64

func init() {
	var limits [2]uint64
	if read(&limits) == 0 {
		Soft, Hard = limits[0], limits[1]
	}
}
