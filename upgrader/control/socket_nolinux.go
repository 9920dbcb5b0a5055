//go:build unix && !linux

package control

import "os"

// openDirectory fails: only Linux leads from a descriptor into its directory.
func openDirectory(string) (*os.File, error) { return nil, errTooLong }
