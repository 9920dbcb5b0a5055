package strict

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// MaxBody is the largest body, in bytes, that Handler's /echo takes.
const MaxBody = 4 << 20

// Handler is a service as the clients expect it.
func Handler(generation int) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Header.Get(HeaderID))
	})
	mux.HandleFunc("/pid", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.Getpid())
	})
	mux.HandleFunc("POST /echo", EchoBody)
	mux.HandleFunc("GET /slow", slow)
	mux.HandleFunc("GET /long", EchoBytes)
	return Stamp(generation, mux)
}

// Stamp sets the headers which every answer must have.
func Stamp(generation int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(HeaderID, r.Header.Get(HeaderID))
		w.Header().Set(HeaderGeneration, strconv.Itoa(generation))
		w.Header().Set(HeaderPID, strconv.Itoa(os.Getpid()))
		next.ServeHTTP(w, r)
	})
}

// EchoBody answers with the body of the request.
func EchoBody(w http.ResponseWriter, r *http.Request) {
	// Whole, as net/http ends the body with the first byte of the answer.
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Write(b)
}

func slow(w http.ResponseWriter, r *http.Request) {
	ms, _ := strconv.Atoi(r.FormValue("ms"))
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		fmt.Fprintln(w, "at last")
	case <-r.Context().Done():
	}
}

// EchoBytes makes a raw connection of the request's, on which every byte comes back.
func EchoBytes(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "echo")
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\n")
	w.Header().Write(rw)
	fmt.Fprint(rw, "\r\n")
	if rw.Flush() == nil {
		io.Copy(c, rw)
	}
}
