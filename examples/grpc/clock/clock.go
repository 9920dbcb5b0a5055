// Package clock is what protoc-gen-go-grpc would make of
//
//	service Clock {
//		rpc Echo(google.protobuf.Duration) returns (google.protobuf.Duration);
//		rpc Count(google.protobuf.Int64Value) returns (stream google.protobuf.Int64Value);
//	}
//
// written by hand, so that the example needs no other tools.
package clock

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	echo  = "/tablecloth.example.Clock/Echo"
	count = "/tablecloth.example.Clock/Count"
)

// Server is what a service implements.
type Server interface {
	Echo(context.Context, *durationpb.Duration) (*durationpb.Duration, error)
	Count(*wrapperspb.Int64Value, grpc.ServerStreamingServer[wrapperspb.Int64Value]) error
}

// Register makes s known to a gRPC server.
func Register(r grpc.ServiceRegistrar, s Server) { r.RegisterService(&description, s) }

// Client calls a Server.
type Client struct{ C grpc.ClientConnInterface }

// Echo calls Server.Echo.
func (c Client) Echo(ctx context.Context, d *durationpb.Duration, o ...grpc.CallOption) (*durationpb.Duration, error) {
	out := new(durationpb.Duration)
	return out, c.C.Invoke(ctx, echo, d, out, o...)
}

// Count calls Server.Count.
func (c Client) Count(ctx context.Context, from int64, o ...grpc.CallOption) (grpc.ServerStreamingClient[wrapperspb.Int64Value], error) {
	s, err := c.C.NewStream(ctx, &description.Streams[0], count, o...)
	if err != nil {
		return nil, err
	}
	stream := &grpc.GenericClientStream[wrapperspb.Int64Value, wrapperspb.Int64Value]{ClientStream: s}
	if err := stream.SendMsg(wrapperspb.Int64(from)); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

var description = grpc.ServiceDesc{
	ServiceName: "tablecloth.example.Clock",
	HandlerType: (*Server)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: handleEcho}},
	Streams:     []grpc.StreamDesc{{StreamName: "Count", Handler: handleCount, ServerStreams: true}},
}

func handleEcho(s any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(durationpb.Duration)
	if err := decode(in); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, in any) (any, error) { return s.(Server).Echo(ctx, in.(*durationpb.Duration)) }
	if intercept == nil {
		return handle(ctx, in)
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: s, FullMethod: echo}, handle)
}

func handleCount(s any, stream grpc.ServerStream) error {
	in := new(wrapperspb.Int64Value)
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	return s.(Server).Count(in, &grpc.GenericServerStream[wrapperspb.Int64Value, wrapperspb.Int64Value]{ServerStream: stream})
}
