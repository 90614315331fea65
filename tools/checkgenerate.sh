#!/bin/sh
# Says whether the committed generated files are what `make generate` would write, without
# touching the tree. Usage: checkgenerate.sh BUF, where BUF is the path of the buf program.
set -eu
cd "$(dirname "$0")/.."
buf=$1

go run ./tools/protodeps -check

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$buf" generate --output "$fresh"
stale=
for folder in api/gen api/openapi; do
	diff -r -q "$fresh/$folder" "$folder" || stale=1
done
if [ -n "$stale" ]; then
	echo "checkgenerate: generated files are stale: run \`make generate\`" >&2
	exit 1
fi
echo "checkgenerate: generated files are up to date"
