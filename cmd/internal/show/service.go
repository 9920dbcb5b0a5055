package show

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/demo"
	"github.com/tablecloth-go/tablecloth/server"
)

// Ready is the line of JSON that a generation of the service writes to its
// standard output when it is ready.
type Ready struct {
	Generation int    `json:"generation"`
	PID        int    `json:"pid"`
	Web        string `json:"web"` // address
}

// Serve is a generation of the service. It ends with its standard input: nothing
// must outlive the show, however that ends.
func Serve(args []string, version string) error {
	return serve(args, version, server.Options{
		KillTimeout: 3 * time.Second,
		IdleGrace:   idleness + time.Second, // no client is idle for so long
	})
}

func serve(args []string, version string, o server.Options) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.PIDFile, "pidfile", "", "PID file")
	flags.StringVar(&o.Control, "control", "", "control socket")
	if err := flags.Parse(args); err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	log := demo.NewLog()
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
