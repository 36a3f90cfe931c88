#!/usr/bin/env bash
# Builds the web client into web/dist where npm is there; Pointsman runs without it, too.
# Does nothing when nothing has changed since the last time.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ -f web/package.json ] || exit 0
stamp=web/dist/.made-from
wanted=$(cd web && find . -path ./node_modules -prune -o -path ./dist -prune -o -path ./src/gen -prune -o -path ./screenshots -prune -o -path ./test-results -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

if ! command -v npm >/dev/null; then
    echo "setup: the web client is left out: npm is missing. Install Node.js 20.19 or newer and run: make web" >&2
    exit 0
fi
echo "setup: building the web client" >&2
mkdir -p build
log=$PWD/build/web.log
if (cd web && timeout 600 npm ci --no-audit --no-fund && timeout 600 npm run build) >"$log" 2>&1 </dev/null; then
    echo "$wanted" > "$stamp"
else
    # npm explains its own usage at length; its first lines say why.
    # `sed`, not `head`, which would end the pipe, and with it this script, before all is written.
    { grep '^npm error' "$log" || tail -n 5 "$log"; } | sed -n 1,5p >&2
    echo "setup: the web client is left out: its build failed ($log). Everything else works; try again with: make web" >&2
fi
