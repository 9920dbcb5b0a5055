// Package rawclone makes a process by clone(2) that runs no other program, or not
// yet: neither package os nor syscall can. What runs in it has to be written with
// care.
//
// The new process has one thread and no Go runtime: the scheduler, the collector
// and the other threads stayed behind, and any lock may be held for ever. Its
// memory is a copy, so nothing that it does there is seen elsewhere. All that runs
// there is a tree of functions that are nosplit, norace and noinline. They must not
// allocate, grow the stack, store a pointer, convert through unsafe.Pointer from an
// integer, or call anything but each other, SwapMask and syscall.RawSyscall6. The
// linker sees to it that their stack suffices: so they call each other directly,
// and not through a function value. Package rawtest reads the compiled code for the
// rest.
package rawclone
