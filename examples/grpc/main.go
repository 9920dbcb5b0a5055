// Command grpc is a gRPC service. When its process drains, calls under way are
// finished and clients get a GOAWAY: they connect anew by themselves, to the next
// generation, and no call fails.
package main

import (
	"context"
	"flag"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tablecloth-go/tablecloth/examples/grpc/clock"
	"github.com/tablecloth-go/tablecloth/server"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9090", "`address` to serve on")
	pidfile := flag.String("pidfile", "", "`file` for the PID of the process that serves")
	flag.Parse()

	drain, end := context.WithCancel(context.Background())
	ready := health.NewServer()
	rpc := grpc.NewServer()
	clock.Register(rpc, &service{drain: drain.Done()})
	grpc_health_v1.RegisterHealthServer(rpc, ready)
	err := server.Run(context.Background(), server.Options{
		PIDFile: *pidfile,
		// Calls of gRPC know nothing of a drain: long streams have to be told.
		OnDrain: func(context.Context) {
			end()
			ready.Shutdown()
		},
	}, server.GRPC("api", rpc, *listen))
	if err != nil {
		log.Fatal(err)
	}
}

type service struct{ drain <-chan struct{} }

// Echo answers after a while that the caller chooses.
func (*service) Echo(ctx context.Context, d *durationpb.Duration) (*durationpb.Duration, error) {
	select {
	case <-time.After(min(d.AsDuration(), time.Second)):
		return d, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Count sends numbers from the given one on, and ends in order when this process
// drains: the caller goes on from there, with the next.
func (s *service) Count(from *wrapperspb.Int64Value, stream grpc.ServerStreamingServer[wrapperspb.Int64Value]) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := from.Value; ; n++ {
		if err := stream.Send(wrapperspb.Int64(n)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-s.drain:
			return nil
		case <-stream.Context().Done():
			return nil
		}
	}
}
