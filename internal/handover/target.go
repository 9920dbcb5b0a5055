package handover

// Target is a server that connections can go to.
type Target interface {
	// Claim is asked, before the acknowledgement, whether it takes a connection.
	// It must neither read from it nor write to it. An error refuses it.
	Claim(*Item) error
	// Adopt is told that the connection is its own now: it has been
	// acknowledged. Adopt must not block.
	Adopt(*Item)
}
