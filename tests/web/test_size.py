"""What a first visit loads."""

import gzip
import re

import pytest

import web

pytestmark = pytest.mark.browser


def test_the_first_load_is_small() -> None:
    """At most 250 kB gzipped, of each page, with all that it names; all of it from here."""
    root = web.directory()
    for name in ("index.html", "tasks.html", "console.html"):
        page = (root / name).read_text()
        named = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(named) >= 3, page
        assert all(address.startswith("./") or "//" not in address for address in named)
        loaded = [page.encode(), *((root / address).read_bytes() for address in named)]
        assert sum(len(gzip.compress(it)) for it in loaded) <= 250_000
