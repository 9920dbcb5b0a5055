//go:build !race

package rawio

const possible = true
