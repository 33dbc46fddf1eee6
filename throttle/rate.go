package throttle

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is N in any time Per. All N may come at once, and one more each time that
// an Nth part of Per has passed.
type Rate struct {
	N   int
	Per time.Duration
}

// ParseRate reads a rate like 10/15m, or off, which is the zero Rate.
func ParseRate(text string) (Rate, error) {
	if text == "off" {
		return Rate{}, nil
	}
	n, per, _ := strings.Cut(text, "/")
	number, err := strconv.Atoi(n)
	duration, errPer := time.ParseDuration(per)
	if err != nil || errPer != nil || number <= 0 || n[0] == '+' {
		return Rate{}, fmt.Errorf("%q is neither a rate like 10/15m nor off", text)
	}
	r := Rate{N: number, Per: duration}
	return r, r.check()
}

// String is the form that [ParseRate] reads.
func (r Rate) String() string {
	if r == (Rate{}) {
		return "off"
	}
	per := r.Per.String()
	for _, zero := range []string{"m0s", "h0m"} { // 15m0s, 24h0m0s
		if strings.HasSuffix(per, zero) {
			per = per[:len(per)-2]
		}
	}
	return strconv.Itoa(r.N) + "/" + per
}

// interval is the time in which one comes back. Redis counts in milliseconds.
func (r Rate) interval() time.Duration {
	return (r.Per / time.Duration(r.N)).Truncate(time.Millisecond)
}

// check refuses what cannot be counted, or would be no limit.
func (r Rate) check() error {
	switch {
	case r == Rate{}:
		return nil
	case r.N < 1 || r.Per <= 0 || r.Per > day:
		return fmt.Errorf("a rate of %d in %s: at least one, in at most a day", r.N, r.Per)
	case r.interval() < time.Millisecond:
		return fmt.Errorf("a rate of %d in %s is more than one a millisecond", r.N, r.Per)
	}
	return nil
}
