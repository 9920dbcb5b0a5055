package vault

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Page is what the requests of a dead worker get. A nil Page and the zero one
// mean a line of text.
type Page struct {
	ContentType string        // of Body; empty: found out by http.DetectContentType
	Body        []byte        // nil: the status in words
	RetryAfter  time.Duration // said with a 503, rounded up to seconds; 0: one second
}

// Render returns the whole response with the status 500 or 503. Its Date is
// now.
func (p *Page) Render(status int, k Kind, now time.Time) []byte {
	if p == nil {
		p = &Page{}
	}
	body, typ := p.Body, p.ContentType
	if body == nil {
		body, typ = fmt.Appendf(nil, "%d %s\n", status, http.StatusText(status)), "text/plain; charset=utf-8"
	}
	if typ == "" {
		typ = http.DetectContentType(body)
	}
	if k&Known == 0 {
		body = nil
	}
	proto := "HTTP/1.1"
	if k&HTTP10 != 0 {
		proto = "HTTP/1.0"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %03d %s\r\nDate: %s\r\n", proto, status, http.StatusText(status), now.UTC().Format(http.TimeFormat))
	if k&Known != 0 {
		fmt.Fprintf(&b, "Content-Type: %s\r\n", typ)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	if status == http.StatusServiceUnavailable {
		fmt.Fprintf(&b, "Retry-After: %s\r\n", p.retryAfter())
	}
	b.WriteString("Connection: close\r\n\r\n")
	if k&Head == 0 {
		b.Write(body)
	}
	return b.Bytes()
}

func (p *Page) retryAfter() string {
	seconds := (p.RetryAfter + time.Second - 1) / time.Second
	return strconv.Itoa(max(1, int(seconds)))
}
