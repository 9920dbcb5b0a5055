package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tablecloth-go/tablecloth/examples/grpc/clock"
)

// patience bounds what takes a client milliseconds on an idle machine.
const patience = time.Minute

type dial func(addr string) (net.Conn, error)

func plain(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }

// secure trusts one certificate.
func secure(roots *x509.CertPool) dial {
	return func(addr string) (net.Conn, error) {
		return tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	}
}

// connections calls talk with one connection after the other. talk returns an
// error if something was lost.
func connections(d dial, talk func(context.Context, net.Conn, *tally) error) client {
	return func(ctx context.Context, addr string, t *tally) {
		for ; ctx.Err() == nil; pause(ctx) {
			c, err := d(addr)
			if err == nil {
				c.SetDeadline(time.Now().Add(patience))
				err = talk(ctx, c, t)
				c.Close()
			}
			if err != nil {
				t.fail(lost, err)
			}
		}
	}
}

// http1 makes POSTs on one connection as long as that lasts: it repeats nothing.
func http1(ctx context.Context, c net.Conn, t *tally) error {
	lines := bufio.NewReader(c)
	for n := 0; ctx.Err() == nil; n++ {
		body := fmt.Sprintf("request %d", n)
		if _, err := fmt.Fprintf(c, "POST /echo HTTP/1.1\r\nHost: example\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			return err
		}
		resp, err := http.ReadResponse(lines, nil)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			return err
		case resp.StatusCode >= 500:
			t.add(apology)
		case string(got) != body:
			t.fail(wrong, fmt.Errorf("%q instead of %q", got, body))
		default:
			t.add(answered)
		}
		if resp.Close {
			t.add(told)
			return nil
		}
		pause(ctx)
	}
	return nil
}

// http2 is Go's own client, which follows a GOAWAY by itself.
func http2(roots *x509.CertPool) client {
	return func(ctx context.Context, addr string, t *tally) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		c := http.Client{Transport: transport, Timeout: patience}
		for n := 0; ctx.Err() == nil; n++ {
			body := []byte(strconv.Itoa(n))
			resp, err := c.Post("https://"+addr+"/", "text/plain", bytes.NewReader(body))
			if err != nil {
				t.fail(lost, err)
				pause(ctx)
				continue
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			switch {
			case err != nil:
				t.fail(lost, err)
			case resp.ProtoMajor != 2 || !bytes.Equal(got, body):
				t.fail(wrong, fmt.Errorf("%s %q instead of %q", resp.Proto, got, body))
			default:
				t.add(answered)
			}
			pause(ctx)
		}
	}
}

// lines are what the tcp example answers.
func lines(ctx context.Context, c net.Conn, t *tally) error {
	in := bufio.NewReader(c)
	for n := 0; ctx.Err() == nil; n++ {
		line := fmt.Sprintf("line %d\n", n)
		if _, err := io.WriteString(c, line); err != nil {
			return err
		}
		bye := false
		got, err := in.ReadString('\n')
		if err == nil && strings.HasPrefix(got, "!") {
			bye = true
			got, err = in.ReadString('\n')
		}
		switch {
		case err != nil:
			return err
		case got != line:
			t.fail(wrong, fmt.Errorf("%q instead of %q", got, line))
		default:
			t.add(answered)
		}
		if bye {
			t.add(told)
			return nil
		}
		pause(ctx)
	}
	return nil
}

// events is a browser's EventSource: it comes back with the last id it has seen.
func events(ctx context.Context, addr string, t *tally) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	last := int64(0)
	for ; ctx.Err() == nil; pause(ctx) {
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr, nil)
		if last > 0 {
			r.Header.Set("Last-Event-ID", strconv.FormatInt(last, 10))
		}
		resp, err := transport.RoundTrip(r)
		if err == nil {
			if resp.StatusCode >= 500 {
				t.add(apology)
			}
			err = stream(resp.Body, &last, t)
			resp.Body.Close()
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			t.fail(lost, err)
		default:
			t.add(told)
		}
	}
}

// stream reads events until it ends: nil if it ended in order.
func stream(r io.Reader, last *int64, t *tally) error {
	in := bufio.NewScanner(r)
	for in.Scan() {
		text, ok := strings.CutPrefix(in.Text(), "id: ")
		if !ok {
			continue
		}
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil || *last > 0 && id != *last+1 {
			t.fail(wrong, fmt.Errorf("event %s after %d", text, *last))
		}
		*last = id
		t.add(answered)
	}
	return in.Err()
}

// messages of a websocket.
func messages(ctx context.Context, addr string, t *tally) {
	for ; ctx.Err() == nil; pause(ctx) {
		within, cancel := context.WithTimeout(context.Background(), patience)
		c, resp, err := websocket.Dial(within, "ws://"+addr, nil)
		switch {
		case err == nil:
			err = converse(ctx, within, c, t)
			c.CloseNow()
		case resp != nil && resp.StatusCode >= 500:
			t.add(apology)
			err = nil
		}
		if err != nil {
			t.fail(lost, err)
		}
		cancel()
	}
}

func converse(ctx, within context.Context, c *websocket.Conn, t *tally) error {
	for n := 0; ctx.Err() == nil; n++ {
		message := fmt.Sprintf("message %d", n)
		if err := c.Write(within, websocket.MessageText, []byte(message)); err != nil {
			return err
		}
		bye := false
		_, got, err := c.Read(within)
		if err == nil && strings.HasPrefix(string(got), "!") {
			bye = true
			_, got, err = c.Read(within)
		}
		switch {
		case err != nil:
			return err
		case string(got) != message:
			t.fail(wrong, fmt.Errorf("%q instead of %q", got, message))
		default:
			t.add(answered)
		}
		if bye {
			t.add(told)
			break
		}
		pause(ctx)
	}
	return c.Close(websocket.StatusNormalClosure, "")
}

// calls are unary calls of gRPC, none of which is repeated.
func calls(ctx context.Context, addr string, t *tally) {
	conn, err := newGRPC(addr)
	if err != nil {
		t.fail(wrong, err)
		return
	}
	defer conn.Close()
	for n := 1; ctx.Err() == nil; n++ {
		d := durationpb.New(time.Duration(n%5) * time.Millisecond)
		within, cancel := context.WithTimeout(context.Background(), patience)
		got, err := clock.Client{C: conn}.Echo(within, d)
		cancel()
		switch {
		case err != nil:
			t.fail(lost, rpcError(err))
		case got.AsDuration() != d.AsDuration():
			t.fail(wrong, fmt.Errorf("%v instead of %v", got, d))
		default:
			t.add(answered)
		}
		pause(ctx)
	}
}

// count reads the numbers of one stream after the other.
func count(ctx context.Context, addr string, t *tally) {
	conn, err := newGRPC(addr)
	if err != nil {
		t.fail(wrong, err)
		return
	}
	defer conn.Close()
	next := int64(1)
	for ; ctx.Err() == nil; pause(ctx) {
		stream, err := clock.Client{C: conn}.Count(ctx, next)
		for err == nil {
			m, rerr := stream.Recv()
			if err = rerr; err != nil {
				break
			}
			if m.Value != next {
				t.fail(wrong, fmt.Errorf("%d instead of %d", m.Value, next))
			}
			next = m.Value + 1
			t.add(answered)
		}
		switch {
		case ctx.Err() != nil:
		case err == io.EOF:
			t.add(told)
		default:
			t.fail(lost, rpcError(err))
		}
	}
}

func newGRPC(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry())
}

// rpcError makes a refused connect known as one.
func rpcError(err error) error {
	if grpcstatus.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "connection refused") {
		return fmt.Errorf("%v: %w", err, syscall.ECONNREFUSED)
	}
	return err
}
