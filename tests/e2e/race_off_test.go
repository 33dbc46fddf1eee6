//go:build !race

package e2e_test

import "time"

const slack time.Duration = 0
