"""Which routes need a key or a session of the page, as both documents say."""

import pytest

from plumbline import openapi
from plumbline.openapi import Listener

METHODS = {"get", "post", "patch", "delete", "put"}


@pytest.mark.parametrize("listener", ["public", "admin"])
def test_every_operation_says_who_may(listener: Listener) -> None:
    """Who adds a route says what scope it needs (core/access.py `Needs`, on the admin listener `LOOK` or `ACT`); the
    page's own routes need a session, and only the one that begins a session needs nothing."""
    document = openapi.document(listener)
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]
    needs = {(method, path): it.get("security") for method, path, it in operations}
    assert needs.pop(("post", "/page/session"), None) is None
    for (_, path), security in needs.items():
        assert security == [{"pageSession" if path.startswith("/page/") else "apiKey": []}], path
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
