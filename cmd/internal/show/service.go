package show

import (
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/demo"
	"github.com/tablecloth-go/tablecloth/server"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// Ready is the line of JSON that a generation of the service writes to its
// standard output when it is ready.
type Ready struct {
	Generation int    `json:"generation"`
	PID        int    `json:"pid"`
	Web        string `json:"web"` // address
}

// Serve is a generation of the service, or with --keep its keeper first.
func Serve(args []string, version string) error { return serve(args, version, options()) }

func options() server.Options {
	return server.Options{
		KillTimeout: 10 * time.Second,
		IdleGrace:   idleness + time.Second, // no client is idle for so long
	}
}

func serve(args []string, version string, o server.Options) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.PIDFile, "pidfile", "", "PID file")
	flags.StringVar(&o.Control, "control", "", "control socket")
	hold := flags.String("hold", "", "socket to live by")
	keep := flags.Bool("keep", false, "run under a keeper")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := liveBy(*hold); err != nil {
		return err
	}
	log := demo.NewLog()
	if *keep {
		keeper.Become(keeper.Config{
			PIDFile: o.PIDFile, Control: o.Control, Log: log,
			Services: []keeper.Service{{KillTimeout: o.KillTimeout}},
		})
	}
	app := &demo.App{Version: version}
	o.Log = log
	o.OnCrash = func(_ context.Context, c server.Crash) { demo.Crashed(log, c) }
	s, err := server.New(o, server.HTTP("web", &http.Server{Handler: app.Handler()}, "127.0.0.1:0"))
	if err != nil {
		return err
	}
	app.Generation = s.Upgrader().Generation()
	go func() {
		<-s.Ready()
		json.NewEncoder(os.Stdout).Encode(Ready{Generation: app.Generation, PID: os.Getpid(), Web: s.Addr("web").String()})
	}()
	return s.Run(context.Background())
}
