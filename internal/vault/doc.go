// Package vault makes the connections of a worker outlive it.
//
// A worker starts, early in its life, a second process which shares its table
// of descriptors and nothing else: the vault. It runs no Go, sleeps on a socket
// to the keeper, and costs nothing. Whatever kills the worker, the vault still
// has all its descriptors, and gives the keeper those it asks for. A descriptor
// that the worker closes is closed: the vault holds no duplicates.
//
// What became of each connection is decided without the worker's help. The
// kernel counts the bytes of both directions for every TCP socket; what the
// kernel can't know is where a request began and a response ends. Those few
// numbers the worker keeps in a [Table] in shared memory, one line for each
// descriptor. [Classify] compares the two.
//
// The worker's side is [Start], and for each connection an [Account], or the
// methods of [Table] where the server knows its boundaries itself. The keeper's is
// [Adopt], then [Vault.Rescue] when the worker died, or [Vault.End] when it has
// ended well. The vault is the keeper's child, for the worker clones it with
// CLONE_PARENT: Adopt's goroutine, nobody else, waits for it.
//
// # What stays open
//
// Until the vault is dead, everything that the worker had open is: locks,
// database sessions, listeners, pipes. So it dies first, before connections are
// answered and before a successor starts.
//
// # What takes the vault along
//
// SIGKILL to the vault itself, a kill of the whole control group
// (memory.oom.group, cgroup.kill), the end of the PID namespace. It has a
// session of its own, so a kill of the worker's process group spares it; all
// other signals are blocked. It ends by itself with the keeper, and with a
// worker that dies before the keeper has adopted it.
//
// # What a connection can't survive
//
// A response of which a part was written is cut, visibly: the peer gets that
// part and then the end. A connection ends after a complete response if it isn't
// known where the request ended: a request that was pipelined behind another
// one, or a body that is still on its way to a handler which answered without
// reading it. Requests pipelined behind the one that died get nothing. TLS,
// HTTP/2, hijacked, unix and MPTCP connections end, after what was sent has
// arrived.
//
// The keeper needs as many descriptors as its largest worker has connections,
// and an eighth more: what there is no room for is lost.
//
// # Where it works
//
// Linux on amd64 and arm64, from 5.4 on, without privileges. Elsewhere Start
// returns an error that wraps errors.ErrUnsupported.
package vault
