package upgrader_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader"
)

// A service that serves by itself: it keeps the port, and finishes its requests.
func Example() {
	u, err := upgrader.New(upgrader.Options{PIDFile: "/run/app/app.pid"})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	ln, err := u.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	web := &http.Server{}
	go web.Serve(ln)
	if err := u.Ready(); err != nil {
		log.Fatal(err)
	}
	<-u.Exit()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	web.Shutdown(ctx)
}

// An upgrade that the program asks for itself.
func ExampleUpgrader_Upgrade() {
	var u *upgrader.Upgrader // from New
	result, err := u.Upgrade(context.Background())
	var failed *upgrader.FailedError
	switch {
	case errors.As(err, &failed):
		log.Printf("this generation serves on: %v", failed)
	case errors.Is(err, upgrader.ErrSupervised):
		log.Print("only a keeper can do that here: tablecloth run")
	case err == nil:
		log.Printf("generation %d serves as process %d, after %v", result.Generation, result.PID, result.Took)
	}
}

// In tests nothing is forked, and no signals are listened to.
func ExamplePlain() {
	u := upgrader.Plain()
	defer u.Close()
	ln, err := u.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ln.Addr().Network(), u.Ready(), u.Generation())
	// Output: tcp <nil> 1
}
