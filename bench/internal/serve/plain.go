package serve

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// plain is net/http as it is: SIGTERM drains it.
func plain(o Options) error {
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return err
	}
	return untilTerm(o, ln)
}

// started takes its socket from Server::Starter.
func started(o Options) error {
	// SERVER_STARTER_PORT is "address=fd;address=fd", see Server::Starter(3pm).
	_, fd, _ := strings.Cut(os.Getenv("SERVER_STARTER_PORT"), "=")
	n, err := strconv.Atoi(fd)
	if err != nil {
		return fmt.Errorf("SERVER_STARTER_PORT: %w", err)
	}
	f := os.NewFile(uintptr(n), "socket")
	ln, err := net.FileListener(f)
	if err != nil {
		return err
	}
	f.Close()
	return untilTerm(o, ln)
}

func untilTerm(o Options, ln net.Listener) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	hs, err := o.server(bare)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-term:
	}
	return shutdown(hs)
}
