"""The pages that the API serves (plumbline/page.py), built from `app/` (npm, Vite, TypeScript) into `page/`.

`page/` is not in the repository: `make setup` builds it (`app/build.sh`), and the wheel brings it, so that who installs
that needs no Node. It lies apart from this module, so that serving the directory publishes nothing else. Every address
in it is relative, so the page also works below a path prefix. `Content-Security-Policy: default-src 'self'` is enough
for all of it: no script or style is inline, and nothing is asked of another host.
"""

from pathlib import Path


def directory() -> Path:
    """The directory to serve: it holds the documents and all that they name, if they were built."""
    return Path(__file__).with_name("page")
