package keeper

import "sync"

// rights say which of several descriptors of one connection counts. The keeper may come
// to have two where workers die one after the other: one may have died while it was
// sending the connection, and another one after it had got it.
type rights struct {
	mu   sync.Mutex
	cond sync.Cond         // of, or a right in it, has changed
	of   map[uint64]*right // by cookies
}

// right is to one connection, as long as it is in rights.
type right struct {
	to        *estate // of the worker that was sent it, and has not answered yet; nil: none
	tentative bool    // whoever has it is still looking for others that have the connection
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
	if was := r.of[cookie]; was != nil && !was.tentative && was.to == nil {
		return nil
	}
	return r.give(cookie, new(right))
}

// try gives it, for now, to somebody who may not be the last that had the connection;
// nil: the keeper has it already, or a worker that lives is going to. It waits for others
// that try, so that whoever tries for several does so in the order of their cookies; and
// for what becomes of a connection that was sent to a dead worker.
func (r *rights) try(cookie uint64) *right {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		was := r.of[cookie]
		switch {
		case was == nil:
			return r.give(cookie, &right{tentative: true})
		case was.tentative, was.to != nil && isClosed(was.to.gone):
			r.cond.Wait()
		default:
			return nil
		}
	}
}

// give needs r.mu.
func (r *rights) give(cookie uint64, it *right) *right {
	r.of[cookie] = it
	r.cond.Broadcast()
	return it
}

// keep ends a try; false: somebody else has taken the right meanwhile.
func (r *rights) keep(cookie uint64, it *right) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.tentative = false
	r.cond.Broadcast()
	return r.of[cookie] == it
}

// send comes before the connection is sent to a worker.
func (r *rights) send(it *right, to *estate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.to = to
}

// back undoes send; false: somebody else has taken the right meanwhile.
func (r *rights) back(cookie uint64, it *right) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.to = nil
	r.cond.Broadcast()
	return r.of[cookie] == it
}

// drop gives up a right, if it is one still: the connection is a worker's, or has ended.
func (r *rights) drop(cookie uint64, it *right) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[cookie] == it {
		delete(r.of, cookie)
		r.cond.Broadcast()
	}
}
