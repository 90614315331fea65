#!/bin/sh
# What suites need beyond Go and make. Installs what is missing where it may (root and
# apt-get); otherwise names the package and the suite that is left out. With CI set
# nothing may be left out: then it fails.
set -eu

# command | Debian package | suite that needs it
needs='
cc|gcc|race detector (tests run without it), keys in PKCS#11 tokens
cc|libc6-dev|race detector (tests run without it), keys in PKCS#11 tokens
curl|curl|e2e: the main job with curl, jq and openssl alone
git|git|breaking changes of the protos
jq|jq|e2e: the main job with curl, jq and openssl alone
openssl|openssl|e2e: the main job with curl, jq and openssl alone
postgres|postgresql|the back end on PostgreSQL
softhsm2-util|softhsm2|keys in PKCS#11 tokens
'

# Debian keeps the servers of PostgreSQL off the path.
PATH=$PATH$(printf ':%s' /usr/lib/postgresql/*/bin)

missing() {
	printf '%s' "$needs" | while IFS='|' read -r command package suite; do
		if [ -n "$command" ] && ! command -v "$command" >/dev/null 2>&1; then
			printf '%s|%s|%s\n' "$command" "$package" "$suite"
		fi
	done
}

lacking=$(missing)
if [ -n "$lacking" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	packages=$(printf '%s\n' "$lacking" | cut -d '|' -f 2 | sort -u | tr '\n' ' ')
	echo "testneeds: installing $packages"
	export DEBIAN_FRONTEND=noninteractive
	# The tests make their own clusters; the package need not make one.
	case $packages in *postgresql*)
		mkdir -p /etc/postgresql-common
		[ -e /etc/postgresql-common/createcluster.conf ] ||
			echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf ;;
	esac
	# A failure is not the last word: what is still missing is named below.
	# shellcheck disable=SC2086 # a list of words
	{ apt-get -q update && apt-get -q install -y --no-install-recommends $packages; } >&2 ||
		echo "testneeds: installing failed" >&2
	lacking=$(missing)
fi
[ -n "$lacking" ] || exit 0

printf '%s\n' "$lacking" | while IFS='|' read -r command package suite; do
	echo "left out: $suite: no $command, install the package $package"
done
if [ -n "${CI:-}" ]; then
	echo "testneeds: with CI set nothing may be left out" >&2
	exit 1
fi
