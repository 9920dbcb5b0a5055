// Package proctest is what the tests of processes share: starting them with their
// output captured, waiting for what they say, write and do, being their service
// manager, and leaving none of them behind.
//
// Everything here fails the test when it has waited for too long. Except for
// Poll and Check, which are for what nobody tells of, nothing looks at a clock before that.
package proctest
