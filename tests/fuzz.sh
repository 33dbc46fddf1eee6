#!/usr/bin/env bash
# Runs every fuzz target for a while: tests/fuzz.sh 10m
#
# What a run finds is written into the package's testdata/fuzz, and is part of
# the ordinary tests from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
each=${1:-3s}
output=$(mktemp)
trap 'rm -f "$output"' EXIT

git grep -l '^func Fuzz' -- '*_test.go' | while read -r file; do
	dir=$(dirname "$file")
	while read -r target; do
		printf '%s %s: ' "$dir" "$target"
		# A nested module is its own.
		(cd "$dir" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" -fuzzminimizetime 1s . >"$output" 2>&1) ||
			{ cat "$output"; exit 1; }
		# With little time, or on a slow machine, it may not get beyond what is kept.
		grep -oE 'execs: .*|baseline coverage: .*' "$output" | tail -1 || echo done
	done < <(grep -oP '^func \KFuzz\w+' "$file")
done
