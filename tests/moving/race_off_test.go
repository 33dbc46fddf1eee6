//go:build !race

package moving_test

import "time"

const slack time.Duration = 0
