#!/usr/bin/env bash
# Installs bubblewrap, which sandboxes are made with, where it may; else says what to type.
set -euo pipefail

[ "$(uname -s)" = Linux ] || { echo "setup: Pointsman runs on Linux; sandboxes are made with its namespaces" >&2; exit 1; }
command -v bwrap >/dev/null && exit 0
# Somebody who asks for Docker needs no bubblewrap.
[ "${SANDBOX:-auto}" = docker ] && exit 0

how="install bubblewrap with your package manager (Debian, Ubuntu: sudo apt-get install bubblewrap)"
if ! command -v apt-get >/dev/null; then
    echo "setup: bwrap is missing; $how" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "setup: bwrap is missing, and installing it needs a password; $how" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi
echo "setup: installing bubblewrap through apt" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get install -qq -y --no-install-recommends bubblewrap >/dev/null 2>&1 ||
    { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -qq -y --no-install-recommends bubblewrap >/dev/null; } ||
    { echo "setup: apt could not install it; $how" >&2; exit 1; }
