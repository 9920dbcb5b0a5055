package keeper

import "sync"

// rights say which of several descriptors of one connection the keeper goes by. It
// may come to have two where workers die one after the other: one may have died
// while it was sending the connection, and the next after it had got it.
type rights struct {
	mu   sync.Mutex
	last right
	of   map[uint64]right // by cookies
}

// right is to one connection; 0: none.
type right uint64

// take gives the right to whoever comes from the worker that had the connection;
// nobody else has it any more.
func (r *rights) take(cookie uint64) right {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.give(cookie)
}

// try gives it to somebody who may come from one that had it no more: 0 if the
// keeper has the connection already.
func (r *rights) try(cookie uint64) right {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[cookie] != 0 {
		return 0
	}
	return r.give(cookie)
}

// give needs r.mu.
func (r *rights) give(cookie uint64) right {
	if r.of == nil {
		r.of = make(map[uint64]right)
	}
	r.last++
	r.of[cookie] = r.last
	return r.last
}

// has reports whether it is this one still.
func (r *rights) has(cookie uint64, which right) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[cookie] == which
}

// drop gives up a right: the connection is a worker's, or has ended.
func (r *rights) drop(cookie uint64, which right) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[cookie] == which {
		delete(r.of, cookie)
	}
}

// dropAll drops rights, by their cookies.
func (r *rights) dropAll(all map[uint64]right) {
	for cookie, which := range all {
		r.drop(cookie, which)
	}
}
