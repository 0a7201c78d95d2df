#!/bin/sh
# Makes the environment of an image: sh requirements/image.sh cpu|cuda. ../Dockerfile runs it in the repository's root.
#   TORCH_INDEX   where the CPU build of torch is, which PyPI does not have; empty: where everything else is
set -eu
environment=/opt/plumbline
export PIP_PYTHON=$environment/bin/python PIP_NO_DEPS=1 PIP_NO_COMPILE=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
lock=requirements/lock-$1.txt

python3 -m venv --without-pip $environment
if [ "$1" = cpu ]; then # alone, so that only torch is looked for in two places
    pip install -q "$(grep '^torch==' "$lock")" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
fi
pip install -q -r "$lock"
# shellcheck disable=SC2046  # names, which have no spaces
pip uninstall -q -y $($PIP_PYTHON requirements/not_to_run.py "$1")
