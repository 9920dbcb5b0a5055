package server_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/tablecloth-go/tablecloth/server"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

// A service that isn't kept tells Prometheus of itself: its status has what
// there is to count. What a keeper counts is told by the keeper (tablecloth run
// --metrics).
func ExampleServer_Upgrader_metrics() {
	mux := http.NewServeMux()
	web := &http.Server{Addr: "127.0.0.1:0", Handler: mux, ReadHeaderTimeout: time.Minute}
	s, err := server.New(server.Options{Upgrader: upgrader.Plain()}, server.HTTP("web", web))
	if err != nil {
		fmt.Println(err)
		return
	}
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		st := s.Upgrader().Status().Services[0]
		counter := func(name string, n int64) { fmt.Fprintf(w, "# TYPE app_%s counter\napp_%s %d\n", name, name, n) }
		counter("upgrades_total", int64(st.Upgrades))
		counter("restarts_total", int64(st.Restarts))
		for _, g := range st.Generations {
			if c := g.Workers[0].Conns; g.Number == st.Generation && c != nil {
				counter("requests_total", c.Requests)
				counter("panics_total", c.Panics)
				fmt.Fprintf(w, "# TYPE app_connections gauge\napp_connections %d\n", c.Open)
			}
		}
	})
}
