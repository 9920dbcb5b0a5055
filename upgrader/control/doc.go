// Package control is the door to a running service: HTTP and JSON over a unix
// socket, of which this package has the types, the server and the client.
//
//	GET  /status          how things are: Status
//	POST /upgrade         UpgradeRequest (optional) to Outcome; blocks
//	GET  /upgrade/{id}    the Outcome of an earlier request; blocks
//	POST /stop            StopRequest (optional); answered when the stop has begun
//	POST /scale           ScaleRequest to Outcome; blocks; of a keeper
//	POST /broadcast       Broadcast to BroadcastAnswer; of a keeper
//	GET  /events          Event by line; ?since=SEQ to resume, &follow=1 to wait for more
//	GET  /metrics         where the service has metrics
//	GET  /healthz         200: the process works; 503: it doesn't
//	GET  /readyz          200: requests should be sent to it; 503: they should not
//
// An upgrade is answered with 200 (ready), 502 (failed), 504 (timed out), 409
// (refused) or 202 (moved: ask GET /upgrade/{id}), always with an Outcome, so that
// curl -f --unix-socket PATH -X POST http://localhost/upgrade does in a script.
// Other failures have a body of {"error", "hint"}. A requester who goes away
// before the answer cancels the upgrade, unless others have asked for it too.
//
// Requests and answers name the version of the protocol in the header
// Tablecloth-Control-Version. Unknown fields are ignored by both sides.
package control
