// Package handover moves live connections from one process to another: the wire
// format, its sender and its receiver. It knows nothing of what is spoken on a
// connection; package live does.
//
// # Who owns a connection
//
// At every moment exactly one process may read from or write to a connection.
//
//   - The sender gives nothing away before the receiver's hello has named the
//     version of this protocol, the servers it has, and its room for
//     descriptors.
//   - The receiver touches a connection only after it has sent the
//     acknowledgement.
//   - The sender closes its descriptor only after it has read the
//     acknowledgement. It takes a connection back only if the receiver has
//     refused it, or is dead and no acknowledgement is left in the socket. That
//     time has passed proves nothing: a stopped receiver wakes up some day.
//
// # Messages
//
// One message of a link.Conn each, all numbers big-endian:
//
//	hello   receiver → sender, first    magic, lowest and highest version, room, servers
//	prefix  sender → receiver           bytes of a prefix that is too long for a batch
//	batch   sender → receiver, ≤ 253 fds  sequence number, items in the order of the descriptors
//	answer  receiver → sender           sequence number, room, refused items with reasons
//	abort   receiver → sender           why; nothing that is unanswered was touched, or will be
//	end     sender → receiver           how many connections were sent
package handover
