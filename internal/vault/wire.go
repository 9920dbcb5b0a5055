package vault

// Requests to a vault: messages of native int32, the first of which says what
// is wanted. A vault and its keeper may be of different releases: numbers are
// never given a new meaning.
const (
	requestFetch = 1 // descriptors → their statuses, with SCM_RIGHTS of the good ones
	requestAdopt = 3 // the vault doesn't end with the worker any more → 0
	// requestScan: from, to → where to go on, descriptors of TCP sockets that don't
	// listen. A third number, from 0 on: how many descriptors are open in all, where
	// that is known. An older vault doesn't heed it.
	requestScan = 2

	maxFetch = 253 // descriptors in one message: the kernel's SCM_MAX_FD
	maxScan  = 512 // descriptors in the answer to one scan
)
