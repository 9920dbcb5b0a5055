package vault

// Kind is what an answer must know of the request that it answers.
type Kind uint32

// The zero Kind means that nothing is known: the answer then has no body, which
// is right for every method.
const (
	// Known is set when the request line has been seen as far as it matters.
	Known Kind = 1 << 1
	// Head is the HEAD method: the answer has headers only.
	Head Kind = 1 << 2
	// HTTP10 is a request of HTTP/1.0.
	HTTP10 Kind = 1 << 3
)

// The other bits of a line's act word.
const (
	actRunning = 1 << 0
	actLast    = 1 << 4
	kindMask   = uint32(Known | Head | HTTP10)
)
