#!/usr/bin/env bash
# Submit a protocol with curl, jq and openssl alone: prepare, sign, submit, keep the receipt.
#
#   examples/curl/submit.sh URL TOKEN-FILE ORGANISATION TRIAL DOCUMENT [FOLDER]
#
# URL is that of the log, TOKEN-FILE holds the bearer token with which a new organisation is
# enrolled. Keys and receipts go to FOLDER (.). Needs bash, curl, jq and openssl 3.
set -euo pipefail

url=$1 token=$(cat "$2") organisation=$3 trial=$4 document=$5 out=${6:-.}
mkdir -p "$out"

# A key of your own, and a recovery key that you would keep elsewhere.
for key in key recovery; do
	[ -e "$out/$key.pem" ] || (umask 077 && openssl genpkey -algorithm ed25519 -out "$out/$key.pem")
done
public() { openssl pkey -in "$1" -pubout -outform DER; }
key_id=$(public "$out/key.pem" | sha256sum | cut -d' ' -f1)

# ask PATH JSON: one request; a refusal is printed and ends the script. The token goes through
# a pipe, the JSON through standard input: arguments of a process are there for all to read.
ask() {
	local answer
	answer=$(curl -sS --max-time 60 -H 'Content-Type: application/json' \
		-H @<(printf 'Authorization: Bearer %s\n' "$token") --data-binary @- "$url$1" <<<"$2")
	if jq -e 'has("status")' >/dev/null <<<"$answer"; then
		jq -r '"refused: \(.title): \(.detail)"' <<<"$answer" >&2
		return 1
	fi
	printf '%s' "$answer"
}

# say DRAFT FILE: prepare a statement, look at it, sign it, submit it, keep its receipt.
say() {
	local prepared
	prepared=$(ask /v1/statements:prepare "$(jq -n --argjson draft "$1" --arg key "$key_id" \
		'{draft: $draft, signers: [{key: $key, meaning: "authorship"}]}')")
	# Check before you sign: the payload is what you put your name to.
	jq -r .payload <<<"$prepared" | base64 -d >"$out/payload.json"
	jq -e --arg kind "$(jq -r .kind <<<"$1")" --arg organisation "$organisation" \
		'.predicate.kind == $kind and .predicate.organisation == $organisation' "$out/payload.json" >/dev/null
	if [ "${3:-}" ]; then
		jq -e --arg sum "$3" '.subject[0].digest.sha256 == $sum' "$out/payload.json" >/dev/null
	fi
	# DSSE's pre-authentication encoding is what is signed. It is made here, from the payload
	# that was just checked, not taken from the answer.
	printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c <"$out/payload.json")" >"$out/to-sign"
	cat "$out/payload.json" >>"$out/to-sign"
	openssl pkeyutl -sign -rawin -inkey "$out/key.pem" -in "$out/to-sign" -out "$out/signature"
	jq -cn --arg payload "$(base64 -w0 <"$out/payload.json")" --arg id "$key_id" --arg sig "$(base64 -w0 <"$out/signature")" \
		'{payloadType: "application/vnd.in-toto+json", payload: $payload, signatures: [{keyid: $id, sig: $sig}]}' \
		>"$out/envelope.json"
	# If the answer does not come, send the same envelope again: it stays one entry.
	ask /v1/statements "$(jq -n --arg envelope "$(base64 -w0 <"$out/envelope.json")" \
		--argjson prepared "$prepared" '{envelope: $envelope, beacon: ($prepared.beacon // "")}')" >"$out/answer.json"
	jq -r .receipt "$out/answer.json" | base64 -d >"$2"
	jq -r '"\(.state) at index \(.index // 0)"' "$out/answer.json"
	rm -f "$out/payload.json" "$out/to-sign" "$out/signature" "$out/envelope.json" "$out/answer.json"
}

say "$(jq -n --arg organisation "$organisation" --arg key "$(public "$out/key.pem" | base64 -w0)" \
	--arg recovery "$(public "$out/recovery.pem" | base64 -w0)" \
	'{organisation: $organisation, kind: "key",
	  attributes: {action: "enrol", publicKey: $key, roles: ["sponsor", "admin"], recovery: $recovery}}')" \
	"$out/key.receipt"

say "$(jq -n --arg organisation "$organisation" --arg trial "$trial" \
	'{organisation: $organisation, trial: $trial, kind: "trial"}')" "$out/trial.receipt"

sum=$(sha256sum <"$document" | cut -d' ' -f1)
say "$(jq -n --arg organisation "$organisation" --arg trial "$trial" --arg sum "$sum" \
	'{organisation: $organisation, trial: $trial, kind: "protocol", version: "1",
	  documentSha256: $sum, mediaType: "application/pdf"}')" "$out/protocol.receipt" "$sum"

echo "receipt: $out/protocol.receipt"
