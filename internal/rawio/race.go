//go:build race

package rawio

const possible = false
