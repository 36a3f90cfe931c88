#!/usr/bin/env bash
# Builds the images pointsman-{sandbox,edge,router,session,runner,llm-proxy}. BASE_IMAGE is a Debian with Python 3.11; where no
# registry can be reached, deploy/images/base.sh makes one.
set -euo pipefail
cd "$(dirname "$0")/../.."

docker info >/dev/null 2>&1 || { echo "images: no Docker Engine answers; start one, or see whether you may use it" >&2; exit 1; }
context=build/images
wheels=$context/wheels
pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check wheel --wheel-dir "$wheels" --no-deps)
mkdir -p "$wheels"

wanted=$(sha256sum < requirements.lock)
if [ "$(cat $context/.made-from 2>/dev/null)" != "$wanted" ]; then
    echo "images: collecting the packages of requirements.lock" >&2
    rm -rf "${wheels:?}"/*
    "${pip[@]}" --require-hashes -r requirements.lock
    echo "$wanted" > $context/.made-from
fi
rm -f "$wheels"/pointsman_*
"${pip[@]}" --no-build-isolation libs/{stubs,servicekit,supervisor,client} services/{router,session,runner,llm-proxy}

rm -rf $context/{envoy,www,litellm.yaml}
mkdir $context/envoy
cp deploy/envoy/{envoy.yaml,pointsman.binpb} $context/envoy/
cp deploy/litellm.yaml $context/
if [ -f web/dist/index.html ]; then cp -r web/dist $context/www; else cp -r deploy/envoy/www $context/www; fi

for image in sandbox edge router session runner llm-proxy; do
    echo "images: pointsman-$image" >&2
    docker build --quiet --file deploy/images/Dockerfile --target "$image" --tag "pointsman-$image" \
        ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} $context >/dev/null
done
