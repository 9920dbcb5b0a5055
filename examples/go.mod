module github.com/tablecloth-go/tablecloth/examples

go 1.26.0

require (
	github.com/coder/websocket v1.8.14
	github.com/tablecloth-go/tablecloth v0.0.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/cloudflare/tableflip v1.2.3 // indirect
	github.com/google/renameio/v2 v2.0.2 // indirect
	github.com/sirupsen/logrus v1.10.2 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
)

replace github.com/tablecloth-go/tablecloth => ../
