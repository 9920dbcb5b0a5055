package serve

import (
	"errors"
	"log"

	"github.com/facebookgo/grace/gracehttp"
	"github.com/fvbock/endless"
	"github.com/jpillora/overseer"
)

// graced is facebookgo/grace: SIGUSR2 replaces the process.
func graced(o Options) error {
	hs, err := o.server(bare)
	if err != nil {
		return err
	}
	return gracehttp.Serve(hs)
}

// endlessly is fvbock/endless: SIGHUP replaces the process.
func endlessly(o Options) error {
	h, err := o.handler(bare)
	if err != nil {
		return err
	}
	endless.DefaultHammerTime = DrainTime
	return endless.ListenAndServe(o.Addr, h)
}

// overseen is jpillora/overseer: SIGUSR2 to the master replaces its child.
func overseen(o Options) error {
	overseer.Run(overseer.Config{
		Required:         true,
		Address:          o.Addr,
		TerminateTimeout: DrainTime,
		NoWarn:           true,
		Program: func(s overseer.State) {
			hs, err := o.server(bare)
			if err != nil {
				log.Fatal(err)
			}
			// Its Close waits for the connections.
			hs.Serve(s.Listener)
		},
	})
	return errors.New("overseer came to its end")
}
