#!/usr/bin/env bash
# Sets up what the tests need, and runs every check and every test.
# Debian packages are installed only if something is missing.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '\n== %s\n' "$*"; }

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need redis-server redis-server
need gcc gcc        # the race detector, and the clock of the Redis servers under test
need curl curl      # the dialogues of the documents
need jq jq
need openssl openssl
[ -x /usr/sbin/nginx ] || need nginx nginx-light
need chromium chromium
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
if [ ${#missing[@]} -gt 0 ]; then
	say "installing ${missing[*]}"
	as_root=()
	[ "$(id -u)" = 0 ] || as_root=(sudo)
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
		"apt-get update -qq && apt-get install -y -qq --no-install-recommends ${missing[*]}" >/dev/null
fi
node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' || { echo "Node 20 or newer is needed"; exit 1; }

# With this set, a test that finds something missing fails instead of skipping.
export CI=true
tool() { go tool -modfile=tools/go.mod "$@"; }

say "packages for Node"
npm ci --loglevel=error
npm ci --loglevel=error --prefix clients/verify/test/nest11 # NestJS 11 beside 12
npm run build

say "format"
unformatted=$(tool gofumpt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { printf 'gofumpt would change:\n%s\n' "$unformatted"; exit 1; }

say "vet and lint"
go vet ./...
tool staticcheck ./...
go mod tidy -diff

# Minutes, the first time; here, and not hidden in a test.
say "Caddy, for the tests of gateways"
export GOFLAGS=-tags=nobadger,nomysql,nopgx
(cd tests/gateways/caddy && go vet . && go tool -n caddy >/dev/null)
unset GOFLAGS

say "tests for Node"
npm test

# A test-only library stays out of the module, and so in one of its own; the vectors
# that come with it are for the tests of tokens too.
say "tests beside a second JOSE library"
(cd tests/jose && go mod download && go vet . && go mod tidy -diff && go test .)

say "tests"
# The go command does not see what a program that a test starts was made of.
go test -race -count=1 -timeout 20m ./...

say "fuzzing, a little (tests/fuzz.sh 10m does it for longer)"
tests/fuzz.sh 3s

say "benchmarks run (once each; the figures mean nothing here)"
figures=$(go test -run '^$' -bench . -benchtime 1x ./...) || { echo "$figures"; exit 1; }
grep '^Benchmark' <<<"$figures"
