#!/usr/bin/env bash
# Runs a log on this machine and submits the sample trial to it: `make run`.
# State is kept in the folder given (./data); stopped and started again, the log goes on.
# LISTEN, GRPC_LISTEN, WITNESS_LISTEN change the addresses, TRIALOG_BIN where the programs are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=${1:-./data}
listen=${LISTEN:-127.0.0.1:8080}
url=http://$listen
trialog=${TRIALOG_BIN:-$PWD/bin}/trialog
mkdir -p -m 700 "$data" # keys and tokens are in it
data=$(cd "$data" && pwd)
work=$data/sample-trial
policy=$data/policy/trialog.policy

bold='' plain=''
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
# run prints a command as a person would type it, then runs it.
run() {
	printf '$ trialog'
	for word in "$@"; do
		case $word in *[!A-Za-z0-9_./:=@,-]*) printf " '%s'" "${word//"$data"/$1data}" ;; *) printf ' %s' "$word" ;; esac
	done
	printf '\n'
	"$trialog" "$@"
}

"${trialog}d" all --data "$data" --listen "$listen" ${GRPC_LISTEN:+--grpc-listen "$GRPC_LISTEN"} \
	${WITNESS_LISTEN:+--witness-listen "$WITNESS_LISTEN"} >>"$data/trialogd.log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; exit' INT TERM EXIT

say "A log with three witnesses is starting; what it has to say goes to $data/trialogd.log"
until (exec 3<>"/dev/tcp/${listen%:*}/${listen##*:}") 2>/dev/null; do
	if ! kill -0 $server 2>/dev/null; then
		tail -n 5 "$data/trialogd.log" >&2
		exit 1
	fi
	sleep 0.2
done

mkdir -p "$work"
for file in examples/sample-trial/*.json examples/sample-trial/*.txt; do
	[ -e "$work/${file##*/}" ] || cp "$file" "$work/"
done
cd "$work"

say "1. A sponsor makes keys and becomes known to the log"
run init --server "$url" --organisation demo-sponsor --token-file "$data/tokens/enrol" \
	--role sponsor --role admin --role site

say "2. The sample trial, document by document"
run submit --trial SAMPLE-0001 --kind trial
run submit registration.json --trial SAMPLE-0001 --kind registration \
	--attribute registry=ClinicalTrials.gov --attribute registryId=SAMPLE-0001
run submit protocol-v1.txt --trial SAMPLE-0001 --kind protocol --version 1
run submit protocol-v2.txt --trial SAMPLE-0001 --kind protocol --version 2 \
	--attribute amendment=1 --attribute 'reason=more withdrawals expected than planned for'
run submit sap.txt --trial SAMPLE-0001 --kind sap --attribute status=final
run submit consent-form-v2.txt --trial SAMPLE-0001 --kind consent-form --version 2 \
	--attribute form=main --attribute language=en
run batch consent-S001.txt --trial SAMPLE-0001 --label consents-week-49 --record-type consent \
	--sealed-attribute subject=S-001 --sealed-attribute site=site-01 --sealed-attribute signedOn=2026-12-04
run submit results.json --trial SAMPLE-0001 --kind results

say "3. Each receipt verified, without the log"
for file in registration.json protocol-v1.txt protocol-v2.txt sap.txt consent-form-v2.txt consent-S001.txt results.json; do
	run verify "$file" "$file.receipt" --policy "$policy"
done

say "4. One word of the protocol altered: 12 weeks becomes 24 weeks"
sed 's/at 12 weeks/at 24 weeks/' protocol-v2.txt >protocol-v2-altered.txt
if run verify protocol-v2-altered.txt protocol-v2.txt.receipt --policy "$policy"; then
	echo "an altered document was verified: this must never happen" >&2
	exit 1
fi

say "All witnesses under one operator: demonstration, not assurance."
cat <<END

The log stays up at $url. What to try next, in another terminal:

  cd $work
  $trialog log tree                        what the witnesses have seen
  $trialog log entry 3                     one entry, verified
  $trialog verify protocol-v1.txt protocol-v1.txt.receipt --policy $policy
  kill -9 $server                          then make run again: nothing is lost

Ctrl-C stops it. make run goes on with the same log.
END
wait $server
