package control_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// A deploy tool puts the new binary into place, and asks for the upgrade.
func ExampleClient_Upgrade() {
	service, err := control.Dial("/run/tablecloth/web")
	if errors.Is(err, control.ErrNotRunning) {
		log.Fatal("start it first")
	}
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := service.Upgrade(ctx, control.UpgradeRequest{})
	switch {
	case errors.Is(err, control.ErrUnknown):
		log.Fatal("look which version serves")
	case err != nil:
		log.Fatal(err)
	case out.Result != control.Ready:
		log.Fatalf("generation %d serves on: %s %s", out.Generation, out.Result, out.Reason)
	}
	fmt.Println("generation", out.Generation, "serves after", out.Took)
}
