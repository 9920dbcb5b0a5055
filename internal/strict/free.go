package strict

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreeAddr returns an address of TCP on 127.0.0.1 that nobody uses, for a service
// that can't be told to take any. Its port is none that the kernel gives to
// connections by itself (ip_local_port_range in ip(7)), of which one could have
// it by the time the service starts, even the one that looks whether it has.
func FreeAddr() (string, error) {
	const from, to = 15000, 32000
	err := errors.New("no port is free")
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(from+rand.IntN(to-from)))
		var ln net.Listener
		if ln, err = net.Listen("tcp", addr); err == nil {
			return addr, ln.Close()
		}
	}
	return "", err
}
