//go:build race

package integration

// race: programs under test are built as the tests are.
const race = true
