#!/usr/bin/env bash
# Pins everything in requirements.in, with hashes. `make lock ARGS=--upgrade` takes newer versions.
set -euo pipefail
cd "$(dirname "$0")/../.."
# No address of an index and no path of this machine in the file: it is the same wherever it is made.
.venv/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
    --custom-compile-command "make lock" ${ARGS:-} --output-file requirements.lock requirements.in
