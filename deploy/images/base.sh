#!/usr/bin/env bash
# Makes a base image for the others where no registry can be reached: a minimal Debian with Python, by debootstrap.
# Needs root, debootstrap and a running Docker Engine. Prints the image's name, to be given as BASE_IMAGE.
set -euo pipefail

image=${1:-pointsman-base:bookworm}
if docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image"
    exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
# The first line of the machine's own sources, so that its mirror is used.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -v security | head -n 1)
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,bubblewrap \
    bookworm "$root" ${mirror:+"$mirror"} >&2
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
tar -C "$root" --exclude=./proc --exclude=./sys -c . | docker import - "$image" >/dev/null
echo "$image"
