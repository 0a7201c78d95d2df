"""The built pages as files: what a browser may keep, what it may load, and what stands there before they are built."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from core import http
from plumbline.page import OPERATORS, VISITORS, Page


def client(directory: Path, documents: Mapping[str, str] = VISITORS) -> TestClient:
    app = FastAPI()
    http.install(app, max_body_bytes=1024)
    app.mount("/", Page(directory, documents))
    return TestClient(app)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """As Vite leaves it."""
    (tmp_path / "assets").mkdir()
    files = {"index.html": "<p>chat", "tasks.html": "<p>tasks", "console.html": "<p>console"}
    files |= {"assets/app-4f3c.js": "let a", "icon.svg": "<svg/>"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_pages_are_asked_for_each_time_and_assets_never_again(built: Path) -> None:
    """An asset's name changes with its content; also where the browser asks whether it changed."""
    it = client(built)
    kept = {path: it.get(path).headers["cache-control"] for path in ("/", "/tasks", "/icon.svg", "/assets/app-4f3c.js")}
    forever = "public, max-age=31536000, immutable"
    assert kept == {"/": "no-cache", "/tasks": "no-cache", "/icon.svg": "no-cache", "/assets/app-4f3c.js": forever}
    tag = it.get("/assets/app-4f3c.js").headers["etag"]
    again = it.get("/assets/app-4f3c.js", headers={"if-none-match": tag})
    assert (again.status_code, again.headers["cache-control"]) == (304, forever)
    assert it.get("/tasks").text == "<p>tasks"
    gone = it.get("/assets/app-0000.js")
    assert (gone.status_code, "immutable" in gone.headers.get("cache-control", "")) == (404, False)


def test_each_listener_has_its_own_pages(built: Path) -> None:
    """Visitors are not shown the console, nor operators the chat, by whatever name; what pages load is the same."""
    paths = ["/", "/tasks", "/console", "/index.html", "/tasks.html", "/console.html", "/assets/app-4f3c.js"]
    visitors, operators = client(built), client(built, OPERATORS)
    assert [visitors.get(path).status_code for path in paths] == [200, 200, 404, 404, 404, 404, 200]
    assert [operators.get(path).status_code for path in paths] == [404, 404, 200, 404, 404, 404, 200]
    assert operators.get("/console").text == "<p>console"
    answer = visitors.get("/console")
    assert answer.json()["error"]["message"] == "There is no GET /console."


def test_pages_load_nothing_from_elsewhere(built: Path) -> None:
    """No inline script, no frame around them, no string made into markup, no neighbour's window or image of theirs."""
    for path, documents in (("/", VISITORS), ("/tasks", VISITORS), ("/console", OPERATORS)):
        headers = client(built, documents).get(path).headers
        policy = dict(each.strip().partition(" ")[::2] for each in headers["content-security-policy"].split(";"))
        assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'self'", "'none'", "'none'")
        assert policy["require-trusted-types-for"] == "'script'"
        assert not {"script-src", "style-src", "connect-src"} & policy.keys(), "nothing is wider than the default"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"


def test_a_page_that_was_not_built_says_so(tmp_path: Path) -> None:
    """Where it would be; it is there as soon as it was built, without a restart. Other paths are what they are."""
    it = client(tmp_path / "page")
    for path in ("/", "/tasks"):
        answer = it.get(path)
        assert (answer.status_code, "make setup" in answer.text) == (503, True)
    assert [it.get("/other").status_code, it.post("/").status_code] == [404, 404]
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<p>chat")
    assert it.get("/").text == "<p>chat"
