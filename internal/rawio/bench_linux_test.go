package rawio

import "testing"

// BenchmarkEcho is a message there and back: an end by Conn, with and without the
// watch, the other by net. What the monitor costs when it is woken for each request
// shows in whole systems only.
func BenchmarkEcho(b *testing.B) {
	for name, on := range map[string]bool{"untold": true, "told": false} {
		b.Run(name, func(b *testing.B) {
			force(b, on)
			peer, s := pair(b, "tcp")
			go func() {
				var c Conn
				p := make([]byte, 4096)
				for {
					n, err := c.Read(s, p)
					if err != nil {
						return
					}
					c.Write(s, p[:n])
				}
			}()
			p := make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				peer.Write(p)
				if _, err := peer.Read(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
