//go:build !race

package gateways_test

import "time"

const slack time.Duration = 0
