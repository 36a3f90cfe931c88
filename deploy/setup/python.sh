#!/usr/bin/env bash
# Makes .venv from requirements.lock, every package checked by its hash, and our own packages beside them.
# Does nothing when nothing has changed since the last time.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "setup: $*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed. Install it (Debian, Ubuntu: sudo apt-get install python3 python3-venv), or name one: PYTHON=/path/to/python3.11 make …"
}

packages=(libs/stubs libs/servicekit libs/supervisor services/router services/session services/runner services/llm-proxy)
[ -d libs/client ] && packages+=(libs/client)

# What the environment is made from. A change in any of it makes a new stamp.
wanted=$(cat requirements.lock "${packages[@]/%//pyproject.toml}" "$0" | sha256sum | cut -d ' ' -f 1)
stamp=.venv/.made-from
[ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

exec 9< requirements.lock
flock 9 # two at once would make one environment together
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(find_python)
    echo "setup: making .venv with $("$python" --version)" >&2
    "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module. Debian, Ubuntu: sudo apt-get install python3-venv"
    rm -rf .venv
    "$python" -m venv .venv
fi

echo "setup: installing packages; the first time takes a few minutes" >&2
pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check install)
"${pip[@]}" --require-hashes -r requirements.lock || fail "the packages could not be installed; pip's message is above"
"${pip[@]}" --no-deps --no-build-isolation "${packages[@]/#/--editable=}" || fail "our own packages could not be installed; pip's message is above"
echo "$wanted" > "$stamp"
