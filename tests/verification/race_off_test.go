//go:build !race

package verification_test

import "time"

const slack time.Duration = 0
