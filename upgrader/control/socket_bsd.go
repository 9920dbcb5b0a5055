//go:build darwin || freebsd

package control

import "golang.org/x/sys/unix"

func peer(fd int, _ bool) (credentials, error) {
	x, err := unix.GetsockoptXucred(fd, 0 /* SOL_LOCAL */, unix.LOCAL_PEERCRED)
	if err != nil {
		return credentials{}, err
	}
	c := credentials{uid: int(x.Uid)}
	for _, g := range x.Groups[:min(int(x.Ngroups), len(x.Groups))] {
		c.groups = append(c.groups, int(g))
	}
	return c, nil
}
