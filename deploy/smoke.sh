#!/usr/bin/env bash
# Asks a running Pointsman the few things that must work, and fails with the first that does not.
#   deploy/smoke.sh [PORT]      PORT: of the edge, default 8080
# HOST (default localhost) and API_KEY say where and as whom; without API_KEY the key that make run made is read from
# POINTSMAN_DATA_DIR (default ./data). It makes a session and deletes it; answers of real models are not compared.
set -uo pipefail

port=${1:-8080}
url=http://${HOST:-localhost}:$port
key_file=${POINTSMAN_DATA_DIR:-data}/api-key
if [ -z "${API_KEY:-}" ]; then
    [ -r "$key_file" ] || { echo "smoke: no API_KEY, and no $key_file: run this where make run runs, or set API_KEY" >&2; exit 2; }
    API_KEY=$(cat "$key_file")
fi

# call METHOD PATH [BODY]: the answer's body, and its status on a line of its own. The key is no argument of a process.
call() {
    local method=$1 path=$2
    shift 2
    curl --silent --max-time 120 --request "$method" --header @- --header 'Content-Type: application/json' \
        ${1:+--data "$1"} --write-out '\n%{http_code}' "$url$path" <<<"$authorization"
}

# expect NAME STATUS PATTERN METHOD PATH [BODY]
expect() {
    local name=$1 status=$2 pattern=$3
    shift 3
    answer=$(call "$@")
    if [ "${answer##*$'\n'}" = "$status" ] && grep -qE "$pattern" <<<"$answer"; then
        echo "ok    $name"
    else
        printf 'FAIL  %s: %s %s answered %s, expected %s with /%s/\n' \
            "$name" "$1" "$url$2" "$(head -c 500 <<<"$answer" | tr '\n' ' ')" "$status" "$pattern" >&2
        exit 1
    fi
}

authorization="Authorization: Bearer $API_KEY"
expect "every service is healthy" 200 '^{"status": ?"healthy"' GET /healthz
authorization="Authorization: Bearer not-the-key"
expect "a wrong key is refused, by name" 401 CREDENTIAL_INVALID POST /query '{"query":"What is 2+2?"}'
authorization="Authorization: Bearer $API_KEY"
expect "models are listed" 200 '"models"' GET /v1/models
expect "a question is answered" 200 '"success": ?true' POST /query '{"query":"What is 2+2?"}'
expect "an agent works in a sandbox" 200 '"type": ?"result"' POST /claude-code \
    '{"prompt":"Run `echo smoke > smoke.txt && cat smoke.txt`","stream":false}'
session=$(grep -oE '"sessionId": ?"[^"]+"' <<<"$answer" | grep -oE '[0-9a-f-]{36}' || true)
if [ -n "$session" ]; then
    expect "its file is in the workspace" 200 smoke.txt GET "/v1/sessions/$session/files"
    expect "the session goes away" 200 '{}' DELETE "/v1/sessions/$session"
fi
echo "Pointsman at $url works."
