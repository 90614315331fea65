#!/bin/sh
# Runs every fuzz target of the module for a time each (default 10s), one after the other,
# and goes on after a failure so that one finding does not hide another.
# Usage: fuzz.sh [FUZZTIME [PATTERN OF PACKAGES…]]
set -eu
cd "$(dirname "$0")/.."
fuzztime=${1:-10s}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- ./...

# `go test -list` prints the targets of a package, then a line "ok <package> <time>".
listing=$(go test -list '^Fuzz' "$@")
targets=$(printf '%s\n' "$listing" | awk '
	/^Fuzz/ { names[n++] = $1 }
	$1 == "ok" { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }')
if [ -z "$targets" ]; then
	echo "fuzz: no target found" >&2
	exit 1
fi

ran=0
failed=
while read -r package target; do
	echo "fuzz: $package $target ($fuzztime)"
	ran=$((ran + 1))
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" -fuzzminimizetime 10x "$package" </dev/null ||
		failed="$failed $package:$target"
done <<EOF
$targets
EOF
if [ -n "$failed" ]; then
	echo "fuzz: failed:$failed" >&2
	exit 1
fi
echo "fuzz: $ran targets, no finding"
