//go:build race

package systemd

// race: programs under test are built as the tests are.
const race = true
