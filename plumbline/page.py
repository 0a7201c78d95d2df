"""The built pages under a policy that lets nothing in from elsewhere: the chat at `/` and rater tasks at `/tasks` of
the public listener, the console at `/console` of the admin listener.

What is in `assets/` has the hash of its content in its name, so a browser may keep it for good; the pages themselves
are asked for each time. A clone that has not built the page says so where it would be; the API needs it not.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

VISITORS = {".": "index.html", "tasks": "tasks.html"}
"""Path to document, of the public listener."""
OPERATORS = {"console": "console.html"}
"""Of the admin listener."""
_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_ASSETS = "assets" + os.sep
_NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Plumbline</title>
<h1>This page has not been built</h1>
<p><code>make setup</code> builds it (or <code>npm ci &amp;&amp; npm run build</code> in <code>web/app</code>);
then load it again. The API works without it.</p>
</html>
"""


class Page(StaticFiles):
    """What is mounted at `/`: `documents`, each at its path alone, and the files that they name, as they are in
    `directory` now; or a word in place of a document that is not there."""

    def __init__(self, directory: Path, documents: Mapping[str, str]) -> None:
        super().__init__(directory=directory, check_dir=False)
        self.config_checked = True  # the page may be built while this runs
        self._documents = documents

    async def get_response(self, path: str, scope: Scope) -> Response:
        document = self._documents.get(path)
        if document is None and path.endswith(".html"):
            raise HTTPException(404)  # another listener's, or not by its path
        if document is not None and scope["method"] == "GET" and self.lookup_path(document)[1] is None:
            return HTMLResponse(_NOT_BUILT, status_code=503, headers=_HEADERS)
        response = await super().get_response(document or path, scope)
        hashed = path.startswith(_ASSETS) and response.status_code in (200, 304)
        response.headers.update(_HEADERS)
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response
