package refresh_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

// Histories at random. A round makes many sessions, and lets clients, thieves
// and administrators loose on them, several at once, over a network that loses
// answers and holds requests back. Between phases the clock steps forward or
// back, and sessions come back as they were in a snapshot. Everything that was
// asked and answered is recorded, and porcupine looks for an order of it all
// that the model (model_test.go) agrees with.
//
// A seed decides who does what, which answers are lost and how the clock goes;
// how the requests of one phase interleave it does not decide. So the same
// seed shows most faults again, but perhaps not at the first attempt; a failure
// therefore prints the session's whole history. To replay one round:
//
//	go test ./refresh -run 'TestHistories$/^redis$' -history.seed=1234
//
// To look for longer:
//
//	go test ./refresh -run 'TestHistories$' -history.duration=10m
var (
	historySeed     = flag.Uint64("history.seed", 0, "make only the round with this `seed`")
	historyDuration = flag.Duration("history.duration", 500*time.Millisecond, "how long to go on with each server")
	historySessions = flag.Int("history.sessions", 20, "sessions in a round")
)

func TestHistories(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		n := newNetwork(t, s)
		seed, once := *historySeed, *historySeed != 0
		if !once {
			seed = 1 + rand.Uint64N(1e9)
		}
		seen := map[string]int{}
		began := time.Now()
		for rounds := 1; ; rounds, seed = rounds+1, seed+1 {
			r := playRound(t, n, seed, *historySessions)
			result, info := r.check()
			for _, p := range r.problems() {
				t.Error(p)
			}
			if result != porcupine.Ok {
				t.Errorf("porcupine: %s\n%s", result, r.explain(t, info))
			}
			if t.Failed() {
				t.Fatalf("seed %d; replay with: go test ./refresh -run 'TestHistories$/^%s$' -history.seed=%d -history.sessions=%d",
					seed, s.Name, seed, *historySessions)
			}
			r.count(seen)
			missing := slices.DeleteFunc(slices.Clone(outcomes), func(o string) bool { return seen[o] > 0 })
			switch {
			case !once && len(missing) > 0 && rounds == 20:
				// What never happens is not tested.
				t.Errorf("no rotation had the outcomes %q", missing)
			case !once && (len(missing) > 0 || time.Since(began) < *historyDuration):
				continue
			}
			t.Logf("%d rounds, the last with seed %d; rotations: %v", rounds, seed, seen)
			return
		}
	})
}

// outcomes of rotations that each server must have seen.
var outcomes = []string{
	"granted", "repeated", "ahead", "answer lost", "perhaps", errReuse.Error(),
	refresh.ErrReused.Error(), refresh.ErrEnded.Error(), refresh.ErrExpired.Error(), refresh.ErrLate.Error(),
	refresh.ErrClient.Error(), refresh.ErrOften.Error(), refresh.ErrClock.Error(),
}

// A mutation is a fault put into a script. Each must show, or the histories
// prove nothing.
type mutation struct{ name, original, mutant string }

var rotateMutations = []mutation{
	{"retry key not stored", `'k', ARGV[4] .. string.sub(keys, 1, 24)`, `'k', keys`},
	{"one retry key kept", `string.sub(keys, 1, 24)`, `''`},
	{"retry key compared with an older one", `string.sub(keys, 1, 8) == ARGV[4]`, `string.sub(keys, 9, 16) == ARGV[4]`},
	{
		"a retry moves on", `string.sub(keys, 1, 8) == ARGV[4] then`,
		`string.sub(keys, 1, 8) == ARGV[4] then redis.call('HINCRBY', KEYS[1], 'g', 1)`,
	},
	{"generation stays", `'g', presented + 1`, `'g', s.g`},
	{"window never closes", `local in_window = age >= 0 and age < tonumber(s.w)`, `local in_window = age >= 0`},
	{"window open before the rotation", `local in_window = age >= 0 and age <`, `local in_window = age <`},
	{"window never opens", `local in_window = age >= 0 and age < tonumber(s.w)`, `local in_window = false`},
	{"window for clients with keys", `in_window and (cookie or ARGV[5] == '')`, `in_window`},
	{"window for cookies only", `in_window and (cookie or ARGV[5] == '')`, `in_window and cookie`},
	{"cookie rotates each time", `ahead == 0 and cookie and in_window`, `false`},
	{"body client has the cookie's grace", `ahead == 0 and cookie and in_window`, `ahead == 0 and in_window`},
	{"repeats not limited", `tonumber(s.n or 0) >= 8`, `false`},
	{"repeats never forgotten", `redis.call('HDEL', KEYS[1], 'n')`, ``},
	{"instant of rotation stays", `'r', now,`, `'r', rotated,`},
	{"clock ignored", `if age < 0 then`, `if false then`},
	{"token ahead is a replay", `if ahead >= 0 then`, `if ahead == 0 then`},
	{"heals by one", `'g', presented + 1`, `'g', s.g + 1`},
	{"replay not noticed", `return answer('reuse')`, `return answer('late')`},
	{"late duplicate is a replay", `return answer('late')`, `return answer('reuse')`},
	{"tombstone forgotten", `if s['end'] then`, `if false then`},
	{"any client may present", `if not arrived or (ARGV[3] ~= '' and ARGV[3] ~= s.c) then`, `if not arrived then`},
	{"any transport will do", `if not arrived or (`, `if (`},
}

var endMutations = []mutation{
	{"no tombstone", `if field ~= 'end' and field ~= 'why' then`, `if true then`},
	{"tombstone without a reason", `'end', now, 'why', ARGV[1]`, `'end', now`},
}

func TestHistoriesFindMutations(t *testing.T) {
	n := newNetwork(t, redistest.Redis(t))
	const seed, sessions, tries = 3, 10, 50

	// The first of the rounds, with the scripts as they are.
	r := playRound(t, n, seed, sessions)
	if result, info := r.check(); result != porcupine.Ok {
		t.Fatalf("not mutated: porcupine: %s\n%s", result, r.explain(t, info))
	}
	if p := r.problems(); len(p) > 0 {
		t.Fatalf("not mutated: %q", p)
	}
	search := func(t *testing.T, m mutation, source string, set func(string) (restore func()), seen func(*round) bool) {
		if count := strings.Count(source, m.original); count != 1 {
			t.Fatalf("%q is %d times in the script", m.original, count)
		}
		defer set(strings.Replace(source, m.original, m.mutant, 1))()
		for i := range uint64(tries) {
			if seen(playRound(t, n, seed+i, sessions)) {
				t.Logf("seen in round %d", i+1)
				return
			}
		}
		t.Errorf("not seen in %d rounds", tries)
	}
	illegal := func(r *round) bool {
		result, _ := r.check()
		return result == porcupine.Illegal
	}
	for _, m := range rotateMutations {
		t.Run(m.name, func(t *testing.T) {
			search(t, m, refresh.RotateSource, refresh.SetRotateSource, illegal)
		})
	}
	for _, m := range endMutations {
		t.Run(m.name, func(t *testing.T) {
			search(t, m, refresh.EndSource, refresh.SetEndSource, illegal)
		})
	}
	// The model knows nothing of access tokens.
	t.Run("access tokens not denied", func(t *testing.T) {
		m := mutation{original: `deny(KEYS[2 * i - 6], KEYS[2], 'sid', sid, exp, now)`, mutant: `exp`}
		search(t, m, refresh.EndSource, refresh.SetEndSource, func(r *round) bool {
			return strings.Contains(strings.Join(r.problems(), "\n"), notDenied)
		})
	})
}

const notDenied = "ended, and its access tokens are not denied"

// check asks porcupine. It has a time limit, because the question is hard in
// theory; a history that takes so long is a fault of the test.
func (r *round) check() (porcupine.CheckResult, porcupine.LinearizationInfo) {
	var all []porcupine.Operation
	for _, l := range r.lives {
		all = append(all, l.history...)
	}
	return porcupine.CheckOperationsVerbose(sessionModel, all, 20*time.Second)
}

// explain prints the sessions that the model does not understand. Requests
// without a number in front are those that porcupine could not place.
func (r *round) explain(t *testing.T, info porcupine.LinearizationInfo) string {
	var text strings.Builder
	for _, part := range info.PartialLinearizationsOperations() {
		var order []porcupine.Operation
		for _, o := range part {
			if len(o) > len(order) {
				order = o
			}
		}
		if len(order) == 0 {
			continue
		}
		i := slices.IndexFunc(r.lives, func(l *life) bool { return l.sid == order[0].Input.(request).sid })
		l := r.lives[i]
		if len(order) == len(l.history) {
			continue
		}
		fmt.Fprintf(&text, "session %s (%s):\n", l.sid, l.name)
		place := map[porcupine.Operation]int{}
		for i, op := range order {
			place[op] = i + 1
		}
		slices.SortFunc(l.history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
		for _, op := range l.history {
			mark := ""
			if n := place[op]; n > 0 {
				mark = fmt.Sprint(n)
			}
			fmt.Fprintf(&text, "%4s %6d to %6d  %v -> %v\n", mark, op.Call, op.Return, op.Input, op.Output)
		}
	}
	// Kept if the tests run with -artifacts.
	path := filepath.Join(t.ArtifactDir(), "history.html")
	if err := porcupine.VisualizePath(sessionModel, info, path); err == nil {
		fmt.Fprintf(&text, "drawn in %s\n", path)
	}
	return text.String()
}

func (r *round) problems() []string {
	var all []string
	for _, l := range r.lives {
		all = append(all, l.problems...)
	}
	return all
}

// count adds what rotations were answered.
func (r *round) count(seen map[string]int) {
	for _, l := range r.lives {
		for _, op := range l.history {
			if op.Input.(request).op != rotate {
				continue
			}
			switch o := op.Output.(outcome); {
			case o.known != answered:
				seen[o.String()]++
			case o.refusal != nil:
				seen[o.refusal.Error()]++
			case o.ahead > 0:
				seen["ahead"]++
			case o.repeated:
				seen["repeated"]++
			default:
				seen["granted"]++
			}
		}
	}
}
