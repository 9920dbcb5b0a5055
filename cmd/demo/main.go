// Command demo is a small HTTP service that replaces itself: kill -HUP it, crash
// it (/asyncerror), and watch its log and its clients.
package main

import (
	"cmp"
	"context"
	"flag"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/demo"
	"github.com/tablecloth-go/tablecloth/server"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

func main() {
	web := flag.String("web", defaultWeb(), "`address` of the first server")
	api := flag.String("api", "127.0.0.1:1985", "`address` of the second server; empty: none")
	unix := flag.String("unix", "", "`path` of a unix socket to serve on as well")
	pidFile := flag.String("pidfile", "", "`path` of the file that holds the serving process's PID")
	control := flag.String("control", "", "`path` of the control socket, for tablecloth upgrade, status, stop, events")
	killTimeout := flag.Duration("kill-timeout", 10*time.Second, "how long a replaced or crashed process may take to finish")
	version := flag.String("version-string", "1", "`version` shown in answers")
	keep := flag.Bool("keep", false, "run under a keeper: one PID for good, and no death drops the port")
	flag.Parse()

	log := demo.NewLog()
	if *keep {
		keeper.Become(keeper.Config{
			PIDFile: *pidFile, Control: *control, Log: log,
			Services: []keeper.Service{{KillTimeout: *killTimeout}},
		})
	}
	app := &demo.App{Version: *version}
	services := []*server.Service{server.HTTP("web", &http.Server{Handler: app.Handler()}, *web)}
	if *unix != "" {
		services[0].Listen = append(services[0].Listen, "unix:"+*unix)
	}
	if *api != "" {
		services = append(services, server.HTTP("api", &http.Server{Handler: app.Handler()}, *api))
	}

	s, err := server.New(server.Options{
		PIDFile:     *pidFile,
		Control:     *control,
		KillTimeout: *killTimeout,
		OnCrash:     func(_ context.Context, c server.Crash) { demo.Crashed(log, c) },
		Log:         log,
	}, services...)
	if err != nil {
		log.Fatal(err)
	}
	app.Generation = s.Upgrader().Generation()
	go func() {
		<-s.Ready()
		log.Infof("generation %d serves on %v", app.Generation, s.Addr("web"))
	}()
	if err := s.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func defaultWeb() string {
	return net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("PORT"), "1337"))
}
