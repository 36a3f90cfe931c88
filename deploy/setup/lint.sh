#!/usr/bin/env bash
# Everything that looks at the code without running it. Goes on after a finding, and fails at the end.
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=.venv/bin
failed=0

check() {
    local name=$1
    shift
    "$@" || { echo "lint: $name failed" >&2; failed=1; }
}

# Generated beside the repository, so that whoever uses the stubs meanwhile finds them whole.
stubs_are_fresh() {
    local fresh status
    fresh=$(mktemp -d)
    mkdir -p "$fresh/libs/stubs" "$fresh/deploy/envoy"
    cp -r protos third_party "$fresh/"
    cp -r libs/stubs/generate.py libs/stubs/openapi "$fresh/libs/stubs/"
    "$bin/python" "$fresh/libs/stubs/generate.py" &&
        diff -rq --exclude=__pycache__ "$fresh/libs/stubs/pointsman" libs/stubs/pointsman &&
        diff -rq --exclude=__pycache__ "$fresh/libs/stubs/buf" libs/stubs/buf &&
        cmp "$fresh/deploy/envoy/pointsman.binpb" deploy/envoy/pointsman.binpb &&
        cmp "$fresh/deploy/envoy/openapi.json" deploy/envoy/openapi.json
    status=$?
    rm -rf "$fresh"
    [ $status = 0 ] || echo "What is generated is not what protos/ says; run: make proto" >&2
    return $status
}

# Against the commit before, where there is one: not in a first or shallow clone.
nothing_breaks() {
    local base
    base=$(git rev-parse --verify --quiet "${LINT_AGAINST:-HEAD~1}" 2>/dev/null) || return 0
    git cat-file -e "$base:protos" 2>/dev/null || return 0
    local before
    before=$(mktemp -d)
    git archive "$base" buf.yaml protos third_party | tar -x -C "$before"
    "$bin/buf" breaking --against "$before"
    local status=$?
    rm -rf "$before"
    return $status
}

# As with the build: without npm the web client is left out. `make web` installs what looks at it.
web_is_neat() {
    command -v npm >/dev/null || return 0
    if [ ! -x web/node_modules/.bin/biome ]; then
        echo "lint: the web client is left out: its tools are not installed. Run: make web" >&2
        return 0
    fi
    (cd web && node_modules/.bin/biome check --error-on-warnings)
}

packages=(libs/servicekit libs/stubs/openapi libs/supervisor services/router services/session services/runner services/llm-proxy tests)
[ -d libs/client ] && packages+=(libs/client)

check "ruff check" "$bin/ruff" check --quiet
check "ruff format" "$bin/ruff" format --quiet --check
check mypy "$bin/mypy" --no-error-summary "${packages[@]}"
check "buf lint" "$bin/buf" lint
check "buf breaking" nothing_breaks
check "generated files" stubs_are_fresh
check "web client" web_is_neat
exit $failed
