"""The built pages: the chat at `/`, rater tasks at `/tasks`, under a policy that lets nothing in from elsewhere.

What is in `assets/` has the hash of its content in its name, so a browser may keep it for good; the pages themselves
are asked for each time. A clone that has not built the page says so where it would be; the API needs it not.
"""

import os
from pathlib import Path

from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

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
<h1>The chat page has not been built</h1>
<p><code>make setup</code> builds it (or <code>npm ci &amp;&amp; npm run build</code> in <code>web/app</code>);
then load this page again. The API works without it.</p>
</html>
"""


class Page(StaticFiles):
    """What is mounted at `/`: the files of `directory` as they are now (`/tasks` is tasks.html), or a word in place of
    the pages where it holds none."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory, html=True, check_dir=False)
        self.config_checked = True  # the page may be built while this runs

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        found = super().lookup_path(path)
        return super().lookup_path(f"{path}.html") if found[1] is None else found

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path in (".", "tasks") and scope["method"] == "GET" and self.lookup_path("index.html")[1] is None:
            return HTMLResponse(_NOT_BUILT, status_code=503, headers=_HEADERS)
        response = await super().get_response(path, scope)
        hashed = path.startswith(_ASSETS) and response.status_code in (200, 304)
        response.headers.update(_HEADERS)
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response
