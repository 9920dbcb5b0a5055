package serve

import (
	"context"

	"github.com/tablecloth-go/tablecloth/server"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

// clothed finds out by itself whether it is kept.
func clothed(o Options) error {
	hs, err := o.server(server.Go)
	if err != nil {
		return err
	}
	return server.Run(context.Background(), server.Options{
		KillTimeout: DrainTime,
		Log:         upgrader.Discard,
	}, server.HTTP("web", hs))
}
