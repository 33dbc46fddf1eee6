package refresh

import (
	"crypto/rand"
	"strconv"
	"time"
)

// answer is what create.lua and rotate.lua reply.
type answer struct {
	verdict string
	now     time.Time
	number  int64 // rotate: generations the token was ahead; create: the user's sessions
	record  record
}

// parseAnswer reads a reply about a token of a generation, which it repeats: a
// session may be asked for several at once.
func parseAnswer(reply []any, generation uint32) (answer, error) {
	if len(reply) != 5 || reply[0] != strconv.FormatUint(uint64(generation), 10) {
		return answer{}, ErrReply
	}
	verdict, ok1 := reply[1].(string)
	now, ok2 := reply[2].(int64)
	number, ok3 := reply[3].(int64)
	if !ok1 || !ok2 || !ok3 {
		return answer{}, ErrReply
	}
	r, err := parseRecord(reply[4])
	if err != nil {
		return answer{}, err
	}
	return answer{verdict, time.UnixMilli(now).UTC(), number, r}, nil
}

func parseRecord(reply any) (record, error) {
	flat, ok := reply.([]any)
	if !ok || len(flat)%2 != 0 {
		return nil, ErrReply
	}
	r := make(record, len(flat)/2)
	for i := 0; i < len(flat); i += 2 {
		name, ok1 := flat[i].(string)
		value, ok2 := flat[i+1].(string)
		if !ok1 || !ok2 {
			return nil, ErrReply
		}
		r[name] = value
	}
	return r, nil
}

// rawKey makes a retry key that no other request can have.
func rawKey() string { return rand.Text() }
