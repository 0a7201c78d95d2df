#!/bin/sh
# Builds .venv from the lock. Idempotent: a second run finds the stamp of the same lock and does nothing.
set -eu
lock=requirements/lock-${PLUMBLINE_LOCK:-cpu}.txt
fail() { echo "setup: $1" >&2; exit 1; }

stamp=.venv/plumbline-$(cat "$lock" pyproject.toml requirements/setup.sh | sha256sum | cut -c1-16)
if [ -e "$stamp" ]; then exit 0; fi

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || fail "this is $(uname -sm); Plumbline's lock is for Linux on x86-64."
python=
for name in ${PYTHON:-python3.11 python3.12 python3}; do
    # A name on PATH may be a launcher for a version that is not installed, so it is run, not only found.
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then python=$name; break; fi
done
[ -n "$python" ] || fail "no Python 3.11 or 3.12 found; install one (Debian: apt-get install python3.11-venv) or name it: make setup PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module; install it (Debian: apt-get install ${python##*/}-venv)."
free_mb=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free_mb" -ge 5000 ] || fail "only $free_mb MB free here; the environment needs about 5000 MB."

[ -x .venv/bin/python ] || "$python" -m venv .venv
pip="timeout 1800 .venv/bin/pip --disable-pip-version-check install --no-deps --no-compile"
torch=$(grep '^torch==' "$lock")
echo "setup: installing $(grep -c == "$lock") pinned packages into .venv (about 2.5 GB, two to four minutes the first time)"
if ! $pip -q "$torch" 2>.venv/torch.log; then
    grep -q "No matching distribution" .venv/torch.log || { cat .venv/torch.log >&2; fail "could not install $torch (see above)."; }
    echo "setup: $torch is not in the configured index; taking it from PyTorch's own CPU index"
    $pip "$torch" --extra-index-url https://download.pytorch.org/whl/cpu || fail "could not install $torch; is the network reachable?"
fi
$pip -q -r "$lock" || fail "could not install $lock (see above); run make setup again when the index is reachable."
.venv/bin/pip --disable-pip-version-check install -q --no-deps --no-build-isolation --editable . || fail "could not install Plumbline itself."
[ -x .venv/bin/redis-server ] || command -v redis-server >/dev/null || command -v valkey-server >/dev/null ||
    fail "no redis-server; install one (Debian: apt-get install redis-server)."
rm -f .venv/plumbline-*
touch "$stamp"
echo "setup: done"
