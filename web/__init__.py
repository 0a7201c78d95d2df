"""The chat page that the API serves at `/`: static files, no build step, no request to another host.

The files lie in `page/`, apart from this module, so that serving the directory publishes nothing else. Every address
in them is relative, so the page also works below a path prefix. `Content-Security-Policy: default-src 'self'` is
enough for all of it: no script or style is inline.
"""

from pathlib import Path


def directory() -> Path:
    """The directory to mount: it holds `index.html` and all that it names."""
    return Path(__file__).with_name("page")
