// Command tablecloth replaces running programs without their clients noticing.
package main

import (
	_ "github.com/cloudflare/tableflip"
	_ "github.com/google/renameio/v2"
	_ "github.com/spf13/cobra"
	_ "golang.org/x/net/http2"
	_ "golang.org/x/term"
)

func main() {}
