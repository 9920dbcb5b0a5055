package upgrader

import "os"

// duplicate fails: nothing follows a process on Windows, so nothing is kept.
func duplicate(*os.File) (*os.File, error) { return nil, ErrNotSupported }
