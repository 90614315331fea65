#!/bin/sh
# Compares the protos with those of main: the work tree with the point where it left main,
# or, on main itself with nothing changed, with the commit before. Where there is nothing to
# compare with, it says so and passes. Usage: protobreaking.sh BUF.
set -eu
cd "$(dirname "$0")/.."
buf=$1

skip() {
	echo "protobreaking: $1: nothing to compare with"
	exit 0
}

git rev-parse --is-inside-work-tree >/dev/null 2>&1 || skip "no git repository"
git rev-parse -q --verify HEAD >/dev/null || skip "no commit yet"
base=
for main in origin/main main; do
	if git rev-parse -q --verify "$main^{commit}" >/dev/null; then
		base=$(git merge-base "$main" HEAD) || skip "no common commit with $main"
		break
	fi
done
[ -n "$base" ] || skip "no branch main"
if [ "$base" = "$(git rev-parse HEAD)" ] && [ -z "$(git status --porcelain -- proto)" ]; then
	base=$(git rev-parse -q --verify HEAD^) || skip "the first commit"
fi
[ -n "$(git ls-tree -r --name-only "$base" -- proto)" ] || skip "no protos at $base"

old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$base" -- proto buf.yaml tools/protodeps/proto | tar -x -C "$old"
"$buf" breaking --against "$old"
echo "protobreaking: no breaking change since $base"
