package keeper

import "sync"

// rights say which of several descriptors of one connection counts. The keeper may come
// to have two where workers die one after the other: one may have died while it was
// sending the connection, and another one after it had got it.
type rights struct {
	mu   sync.Mutex
	cond sync.Cond         // something was delivered, or is not going to be
	of   map[uint64]*right // by cookies
}

// right is to one connection, as long as it is in rights.
type right struct {
	sent      bool // to a worker, which has not answered yet
	tentative bool // whoever has it is still looking for others that have the connection
}

func newRights() *rights {
	r := &rights{of: make(map[uint64]*right)}
	r.cond.L = &r.mu
	return r
}

// take gives the right to a connection that came with the estate of a worker; nil: that
// one had it no more, as the keeper has it already. What was sent may have come to any
// worker by now.
func (r *rights) take(cookie uint64) *right {
	r.mu.Lock()
	defer r.mu.Unlock()
	if was := r.of[cookie]; was != nil && !was.tentative && !was.sent {
		return nil
	}
	it := new(right)
	r.of[cookie] = it
	return it
}

// try gives it, for now, to somebody who may not be the last that had the connection;
// nil: the keeper has it already. It waits for the answer of a worker to which the
// connection was sent.
func (r *rights) try(cookie uint64) *right {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.of[cookie] != nil && r.of[cookie].sent {
		r.cond.Wait()
	}
	if r.of[cookie] != nil {
		return nil
	}
	it := &right{tentative: true}
	r.of[cookie] = it
	return it
}

// keep ends a try; false: somebody else has taken the right meanwhile.
func (r *rights) keep(cookie uint64, it *right) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.tentative = false
	return r.of[cookie] == it
}

// send comes before the connection is sent to a worker.
func (r *rights) send(it *right) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.sent = true
}

// back undoes send; false: somebody else has taken the right meanwhile.
func (r *rights) back(cookie uint64, it *right) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.sent = false
	r.cond.Broadcast()
	return r.of[cookie] == it
}

// drop gives up a right: the connection is a worker's, or has ended.
func (r *rights) drop(cookie uint64, it *right) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[cookie] == it {
		delete(r.of, cookie)
		r.cond.Broadcast()
	}
}

// dropAll drops rights, by their cookies.
func (r *rights) dropAll(all map[uint64]*right) {
	for cookie, it := range all {
		r.drop(cookie, it)
	}
}
