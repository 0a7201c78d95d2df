"""The parts of the API process that need no engine."""

from fastapi import FastAPI
from fastapi.testclient import TestClient

import web
from core import http
from plumbline.page import VISITORS, Page


def test_pages_hide_no_wrong_path() -> None:
    """Behind all routes lie the pages, which take every path: what is meant for an API is still told what is wrong."""
    app = FastAPI()
    http.install(app, max_body_bytes=1024)

    @app.post("/v1/feedback")
    async def vote() -> None: ...

    app.mount("/", Page(web.directory(), VISITORS))
    client = TestClient(app)
    assert [client.request(method, "/v1/feedbacks").status_code for method in ("GET", "POST", "DELETE")] == [404] * 3
    for method in ("GET", "PUT"):
        response = client.request(method, "/v1/feedback")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert response.json()["error"]["message"] == f"/v1/feedback takes POST, not {method}."
