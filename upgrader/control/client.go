package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	// reattachTimeout is how long a service that was replaced or killed while we
	// waited for its answer may take until somebody listens again.
	reattachTimeout = 15 * time.Second
	// brokenTimeout is how long the answers of one service after the other may break
	// off before that is taken for a failure.
	brokenTimeout = 3 * time.Second
	// adoptTimeout is how long the next generation may say that it doesn't know of
	// an upgrade that it is about to be told of.
	adoptTimeout = 2 * time.Second
)

// Client talks to a service over its control socket. Its methods may be called
// from many goroutines.
type Client struct {
	path string
	http *http.Client
}

// Dial returns a Client, after it has seen that somebody listens at path. Errors
// are ErrNotRunning and ErrDenied. There is nothing to close: each call has a
// connection of its own, so that it reaches whoever acts for the service then.
func Dial(path string) (*Client, error) {
	path, err := absolute(path)
	if err != nil {
		return nil, err
	}
	c := &Client{path: path}
	c.http = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.connect(ctx)
		},
		MaxResponseHeaderBytes: 16 << 10,
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	conn.Close()
	return c, nil
}

// Path is the control socket's path: absolute.
func (c *Client) Path() string { return c.path }

// connect waits while the backlog of the socket is full.
func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := dialUnix(c.path, 10*time.Second)
		if err == nil || !backlogFull(err) {
			return conn, c.dialError(err)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (c *Client) dialError(err error) error {
	switch {
	case err == nil:
		return nil
	case refused(err):
		return &Error{Message: fmt.Sprintf("nothing listens on the control socket %s", c.path),
			Hint: "is the service running, and was it given this control socket?", Err: ErrNotRunning}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Message: fmt.Sprintf("this user may not use the control socket %s", c.path),
			Hint: "run it as root or as the user of the service", Err: ErrDenied}
	}
	return &Error{Message: fmt.Sprintf("control socket %s: %v", c.path, errno(err)), Err: err}
}

// Status tells how things are, also when whoever was asked is replaced or killed
// before it can answer.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	_, err := c.insist(ctx, "GET", "/status", nil, &st)
	return st, err
}

// Stop asks for the end of the service, and returns when it has begun. A service
// that has ended before it could answer is no error.
func (c *Client) Stop(ctx context.Context, r StopRequest) error {
	asked, err := c.insist(ctx, "POST", "/stop", r, nil)
	if asked > 1 && errors.Is(err, ErrNotRunning) {
		return nil
	}
	return err
}

// insist makes a request that does no harm when it is made twice, until somebody
// answers it. It returns how often it has asked.
func (c *Client) insist(ctx context.Context, method, path string, body, into any) (asked int, err error) {
	for began := time.Now(); ; {
		_, err = c.ask(ctx, method, path, body, into)
		asked++
		if !errors.Is(err, errBroken) || time.Since(began) > brokenTimeout {
			return asked, err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return asked, err
		}
	}
}

// Upgrade asks for an upgrade, and blocks until its outcome is known, whatever it
// is: also when whoever was asked is replaced or killed before it can answer, as
// its successor is asked again then. ErrUnknown: nobody can tell.
//
// When ctx is done the upgrade is cancelled, unless others have asked for it too
// or it has moved to the next generation; give r an ID to ask for its outcome.
func (c *Client) Upgrade(ctx context.Context, r UpgradeRequest) (Outcome, error) {
	if r.ID == "" {
		r.ID = NewID()
	}
	var out Outcome
	_, err := c.ask(ctx, "POST", "/upgrade", r, &out)
	switch {
	case err == nil && out.Result != Moved:
		return out, nil
	case err == nil || errors.Is(err, errBroken) && ctx.Err() == nil:
		return c.reattach(ctx, r.ID)
	}
	return Outcome{}, err
}

// Outcome blocks until the outcome of an earlier request is known. ErrUnknown:
// nobody knows the ID.
func (c *Client) Outcome(ctx context.Context, id string) (Outcome, error) {
	if err := checkID(id); err != nil || id == "" {
		return Outcome{}, &Error{Message: "not an id of an upgrade", Err: ErrUnknown}
	}
	var out Outcome
	status, err := c.ask(ctx, "GET", "/upgrade/"+id, nil, &out)
	if status == http.StatusNotFound {
		err = unknown("the service does not know of this upgrade (any more)")
	}
	return out, err
}

func unknown(why string) error {
	return &Error{Message: "the outcome of the upgrade is not known: " + why,
		Hint: "see which version serves: tablecloth status", Err: ErrUnknown}
}

// reattach is Outcome for a service that is being replaced: it bears with one
// that doesn't listen, or doesn't know of the upgrade, for a while.
func (c *Client) reattach(ctx context.Context, id string) (Outcome, error) {
	silent := time.Now() // since when nobody has answered
	asked := time.Time{} // when somebody first knew nothing of it
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		out, err := c.Outcome(ctx, id)
		switch {
		case err == nil && out.Result != Moved:
			return out, nil
		case ctx.Err() != nil:
			return Outcome{}, ctx.Err()
		case err == nil:
			silent, asked = time.Now(), time.Time{}
		case errors.Is(err, ErrUnknown):
			silent = time.Now()
			if asked.IsZero() {
				asked = time.Now()
			}
			if time.Since(asked) > adoptTimeout {
				return Outcome{}, err
			}
		case !errors.Is(err, errBroken) && !errors.Is(err, ErrNotRunning):
			return Outcome{}, err
		case time.Since(silent) > reattachTimeout:
			return Outcome{}, unknown("the service was killed, and does not listen any more")
		}
		if err := sleep(ctx, pause); err != nil {
			return Outcome{}, err
		}
	}
}

// errBroken means that a request may or may not have been received.
var errBroken = errors.New("connection broken")

// ask makes one request. The answer of one that was received is decoded into the
// value given, also where it tells of a failure that is an outcome.
func (c *Client) ask(ctx context.Context, method, path string, body, into any) (status int, err error) {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, broken(ctx, c.path, err)
	}
	return resp.StatusCode, decode(resp.StatusCode, b, into)
}

const maxAnswer = 64 << 20

func decode(status int, b []byte, into any) error {
	var a answer
	if status >= 400 && json.Unmarshal(b, &a) == nil && a.Error != "" {
		return toldError(status, a)
	}
	if _, isOutcome := into.(*Outcome); status >= 400 && !isOutcome {
		return &Error{Message: fmt.Sprintf("the service answers %d %s", status, http.StatusText(status))}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(b, into); err != nil {
		return &Error{Message: "the service's answer is not to be understood: " + err.Error(), Err: ErrVersion}
	}
	if out, ok := into.(*Outcome); ok && resultStatus(out.Result) == http.StatusInternalServerError {
		return &Error{Message: fmt.Sprintf("the service tells of an outcome that this release doesn't know: %.40q", out.Result), Err: ErrVersion}
	}
	return nil
}

func toldError(status int, a answer) error {
	e := &Error{Message: a.Error, Hint: a.Hint}
	if status == http.StatusForbidden {
		e.Err = ErrDenied
	}
	return e
}

// send makes a request and looks at who answers.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://tablecloth"+path, content)
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // net/http must not send it twice
	req.Header.Set(versionHeader, strconv.Itoa(Version))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, broken(ctx, c.path, err)
	}
	if err := checkAnswer(resp, c.path); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func broken(ctx context.Context, path string, err error) error {
	var e *Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &e): // of connect
		return e
	}
	return &Error{Message: fmt.Sprintf("the service did not answer on %s: %v", path, errno(err)), Err: errBroken}
}

func checkAnswer(resp *http.Response, path string) error {
	v := resp.Header.Get(versionHeader)
	n, err := strconv.Atoi(v)
	if err != nil {
		return &Error{Message: path + " is not a control socket of tablecloth", Err: ErrVersion}
	}
	if n > Version {
		return &Error{Message: fmt.Sprintf("the service speaks version %d of the control protocol, this command version %d", n, Version),
			Hint: "use the tablecloth command of the release that the service was built with", Err: ErrVersion}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
