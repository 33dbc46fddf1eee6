// Package redistest runs a test on every kind of Redis that the service
// supports, with a clock that the test can move and replies that get lost.
//
// Call [Each] for a test on the embedded server ("miniredis") and on a real
// one ("redis"), or [EachWithCluster] to add a real Cluster of three masters
// ("cluster"). [Miniredis], [Redis] and [Cluster] give one backend, for
// benchmarks too. A package with tests on the Cluster needs
//
//	func TestMain(m *testing.M) { redistest.Main(m) }
//
// Every test gets a [Server] with a client, a URL and a key prefix of its own.
// [Server.Advance] moves the server's clock and everything that expires by it.
// [Server.Flaky] gives a second client that loses replies, [Server.SetFull],
// [Server.Pause] and [Server.Kill] do the other damage. [CommandCount] counts
// what callers send. For failovers, [RedisTCP] gives servers that a test can
// make replicas of each other with [Replicate], with a clock each, and [Sentinel]
// watches them. [Server.Restore] brings a server back with an older state.
// [StartNode] gives a server that a test configures all by itself, ends, and
// starts again with what it has kept.
//
// # How it works
//
// Each call of Redis starts a redis-server of its own, on a Unix socket in a
// temporary folder, within some 15 ms. The Cluster takes a quarter of a second,
// so there is one in a test process. Its tests take turns, and each leaves it
// without the keys under its prefix, with the right time and no scripts loaded.
// The servers die with the test process, however it ends.
//
// The clock of a real server is moved by a small C library (clock.c.txt). It is
// compiled once in a test process and preloaded into redis-server. So records
// may hold whatever instants they like: the kit need not know them. On the
// embedded server the clock stands still between calls of Advance, on a real
// one it runs: no test may depend on either.
//
// Replies are lost on the wire, below the Redis client's own retries, because
// these retries are what such a test is about.
//
// Without Linux, redis-server (7.0 or newer) and a C compiler, tests on a real
// server fail where the environment variable CI is set, and are skipped with
// the words NOT TESTED ON REAL REDIS elsewhere.
//
// # What it does not do
//
// It has no TLS. Its own servers keep nothing over a restart but what
// [Server.Snapshot] has written, and the Cluster has no replicas: a test that wants
// these builds them of nodes. Code that is not a test must not import it.
package redistest
