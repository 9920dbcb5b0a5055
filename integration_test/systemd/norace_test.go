//go:build !race

package systemd

const race = false
