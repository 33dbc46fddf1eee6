//go:build race

package hostile_test

// race makes the program as the test is made.
const race = true
