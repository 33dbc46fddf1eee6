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
need curl curl      # the README's dialogue
need jq jq
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
if [ ${#missing[@]} -gt 0 ]; then
	say "installing ${missing[*]}"
	as_root=()
	[ "$(id -u)" = 0 ] || as_root=(sudo)
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
		"apt-get update -qq && apt-get install -y -qq --no-install-recommends ${missing[*]}" >/dev/null
fi

# With this set, a test that finds no redis-server fails instead of skipping.
export CI=true
tool() { go tool -modfile=tools/go.mod "$@"; }

say "format"
unformatted=$(tool gofumpt -l .)
[ -z "$unformatted" ] || { printf 'gofumpt would change:\n%s\n' "$unformatted"; exit 1; }

say "vet and lint"
go vet ./...
tool staticcheck ./...
go mod tidy -diff

say "tests"
go test -race -timeout 15m ./...

say "benchmarks run (once each; the figures mean nothing here)"
figures=$(go test -run '^$' -bench . -benchtime 1x ./...) || { echo "$figures"; exit 1; }
grep '^Benchmark' <<<"$figures"
