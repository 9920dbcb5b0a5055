package server

import (
	"crypto/tls"
	"net/http"
	"testing"
)

func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

func h2Client(t *testing.T) *http.Client {
	tr := &http.Transport{TLSClientConfig: insecure(), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patienceOfTests}
}
