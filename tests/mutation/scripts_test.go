package mutation

// A script and the tests that must notice what is wrong with it.
type script struct {
	path string
	// first are those most likely to notice.
	first string
	// also are tests of refresh, which denies too.
	also string
}

var scripts = []script{
	{"refresh/rotate.lua", "TestRotationTable$|Limit|TestRotationWrites|TestSessionExpires|TestClockThatStepsLocksNoSessionOut", ""},
	{"refresh/create.lua", "TestCreatedSession|TestOneSession|TestLogin|TestIndex|TestCreateCut|TestIndexLives|TestRow27|TestLateDuplicates", ""},
	{"refresh/end.lua", "TestEnd|TestRow43|TestScriptsCut", ""},
	{"refresh/amend.lua", "TestRoles|TestSetRoles|TestChangedPolicy|TestPolicy|TestTransport", ""},
	{"refresh/list.lua", "TestList|TestExpiredSessions|TestSessionExpires|TestEnd", ""},
	{"refresh/session.lua", "TestRow41|TestCreatedSession", ""},
	{"refresh/index.lua", "TestRow41|TestList", ""},
	{"denylist/add.lua", "TestSessionsAndTokens|TestRow45|TestSessionOfWhichOnly", ""},
	{"denylist/deny.lua", "TestRow45|TestHalf|TestEntries|TestDenials|TestFeed|TestDenying|TestASecond", "TestEndWrites|TestScriptsCut"},
	{"denylist/beat.lua", "TestBeat|TestRow36", ""},
	{"users/add.lua", "TestWhatLies|TestAddThat|TestAdded|TestConcurrentAdds|TestLost", ""},
	{"users/change.lua", "TestEachChange|TestChange|TestLateDuplicate|TestLost|TestUnknownUser", ""},
	{"users/read.lua", "TestAdded|TestWhatLies|TestRow41", ""},
	{"users/name.lua", "TestAdded|TestRow41|TestUsername", ""},
	{"keyring/read.lua", "TestRestart|TestRotationOverTime", ""},
	{"keyring/swap.lua", "TestLateDuplicate|TestConcurrent|TestRotate", ""},
	{"internal/ack/mark.lua", "", ""},
	{"throttle/reserve.lua", "TestClock|TestBudgets|TestRefusals|TestKeys|TestNever|TestRow5|TestRefund", ""},
	{"throttle/refund.lua", "TestRefund|TestKeys", ""},
}

// Tests that are left out: they do not depend on the scripts, would take most of
// the time, or look at random and so do not notice the same every time.
const leftOut = "TestHistories|TestRow24|TestRow44|TestParallelLogins|TestRow32|TestRow39|TestRow40|TestUsersSpread|TestRow14|TestTokenHasOneText|" +
	"TestFollow|TestReplica|TestRow34|TestRow35|TestRow42|TestStart|TestCurrent|TestNothingIsMissed|TestHanging|TestOther|TestOrdinary|TestTrouble|" +
	"TestRow46|TestRow38Steps|TestWithout|TestLines|TestWhatIsNoFeed|TestRow41Shifted|" +
	"TestVerify|TestHash|TestPermits|TestEveryByte|TestBusy|TestDisconnecting|TestPHC|" +
	"TestTampered|TestNoToken|TestDead|TestDeviceKeys|Example"

// more are faults that mutants does not think of.
var more = []struct{ script, from, to string }{
	{
		"refresh/create.lua",
		"  return answer('guard')\nend\nif redis.call('HEXISTS', KEYS[1], 'end') == 1 then\n  return answer('ended')\nend",
		"  return answer('ended')\nend\nif redis.call('HEXISTS', KEYS[1], 'end') == 1 then\n  return answer('guard')\nend",
	},
	{"refresh/rotate.lua", "{KEYS[1], ARGV[1], verdict", "{KEYS[1], '7', verdict"},
	{"refresh/rotate.lua", "return answer('late')", "return answer('reuse')"},
	{"refresh/rotate.lua", "return answer('reuse')", "return answer('late')"},
	{"refresh/rotate.lua", "'g', presented + 1", "'g', s.g + 1"},
	{"users/add.lua", "'epoch', '1'", "'epoch', '2'"},
	{"keyring/swap.lua", "if there == ARGV[1] then", "if there == ARGV[1] or not there then"},
}

// equivalent are the mutants that nothing can tell from the script, and why.
var equivalent = map[string]string{
	"refresh/rotate.lua: local ahead = 0 => local ahead = 1":                                                                                                    "how far ahead the token was is read of a rotation only, which has set it",
	"keyring/swap.lua: return {KEYS[1], there == ARGV[2] and 1 or 0} => return {KEYS[1], there == ARGV[2]  or 0}":                                               "Redis sends true as 1",
	"throttle/reserve.lua: if at > now + interval * (holds + 1) then => if at >= now + interval * (holds + 1) then":                                             "a matter of one millisecond",
	"throttle/reserve.lua: local wait = math.max(0, full[i] + interval - now - interval * holds) => local wait = (full[i] + interval - now - interval * holds)": "the caller asks only whether there is something to wait for",
	"refresh/create.lua: if redis.call('PTTL', KEYS[2]) < ARGV[5] * 1000 then => if redis.call('PTTL', KEYS[2]) <= ARGV[5] * 1000 then":                         "sets the time to live that is there",
}
