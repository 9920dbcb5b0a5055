package config

import _ "embed"

// Example is a file to begin with.
//
//go:embed example.yaml
var Example string
