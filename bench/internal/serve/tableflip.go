package serve

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloudflare/tableflip"
)

// flipped is the example of tableflip's documentation.
func flipped(o Options) error {
	u, err := tableflip.New(tableflip.Options{})
	if err != nil {
		return err
	}
	defer u.Stop()
	go func() {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		for range hup {
			if err := u.Upgrade(); err != nil {
				fmt.Fprintln(os.Stderr, "upgrade:", err)
			}
		}
	}()
	// Listen must be called before Ready.
	ln, err := u.Listen("tcp", o.Addr)
	if err != nil {
		return err
	}
	hs, err := o.server(bare)
	if err != nil {
		return err
	}
	go hs.Serve(ln)
	if err := u.Ready(); err != nil {
		return err
	}
	<-u.Exit()
	return shutdown(hs)
}
