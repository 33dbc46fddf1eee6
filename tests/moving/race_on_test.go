//go:build race

package moving_test

import "time"

// slack is what the race detector, on a busy machine, may add to a time.
const slack = time.Second
