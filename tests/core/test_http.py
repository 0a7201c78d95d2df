"""What every response of ours has in common, seen through a small app."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict

from core import http, metrics
from core.errors import AlreadyDecided, NotFinished, Unavailable

LIMIT = 1024


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    inner: dict[str, int] = {}


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    http.install(app, max_body_bytes=LIMIT)

    @app.post("/echo")
    async def echo(body: Body, number: int = Query(0)) -> Body:
        return body

    @app.get("/mistake")
    async def mistake() -> None:
        raise RuntimeError("secret detail")

    @app.get("/raise/{name}")
    async def raise_ours(name: str) -> None:
        raise {"decided": AlreadyDecided, "unfinished": NotFinished, "away": Unavailable}[name]("A sentence.")

    @app.get("/stream")
    async def stream(fail: bool = False) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for part in "abc":
                await asyncio.sleep(0)
                if fail and part == "c":
                    raise RuntimeError("in the middle")
                yield part

        return StreamingResponse(parts())

    with TestClient(app, raise_server_exceptions=False) as test_client:
        yield test_client


def error_of(response) -> tuple[int, str, str | None, str | None]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error = body["error"]
    return response.status_code, error["type"], error["param"], error["code"]


def test_every_response_has_a_request_id(client):
    """Answers, refusals, unknown paths and our own mistakes alike."""
    responses = [
        client.post("/echo", json={"name": "x"}),
        client.post("/echo", json={}),
        client.post("/echo", content=b"x" * (LIMIT + 1)),
        client.get("/nothing"),
        client.put("/echo"),
        client.get("/mistake"),
        client.get("/stream"),
    ]
    assert [response.status_code for response in responses] == [200, 400, 413, 404, 405, 500, 200]
    identifiers = [response.headers["x-request-id"] for response in responses]
    assert all(identifier.startswith("req_") for identifier in identifiers)
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("abc-1.2:3_X", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("a\tb", False), ("", False)],
)
def test_well_formed_request_id_is_echoed(client, given, echoed):
    """What could break a log line or a header is replaced, not echoed."""
    found = client.post("/echo", json={"name": "x"}, headers={"x-request-id": given}).headers["x-request-id"]
    assert (found == given) is echoed


def test_errors_have_openais_shape(client):
    """Never FastAPI's `detail`: not for bad fields, not for unknown paths or methods, not for our mistakes."""
    kind = "invalid_request_error"
    assert error_of(client.post("/echo", json={"name": "x", "nmae": 1})) == (400, kind, "nmae", None)
    assert error_of(client.post("/echo", json={"name": "x", "inner": {"a": "b"}})) == (400, kind, "inner.a", None)
    assert error_of(client.post("/echo?number=x", json={"name": "x"})) == (400, kind, "query.number", None)
    assert error_of(client.post("/echo", content=b"{", headers={"content-type": "application/json"}))[0] == 400
    assert error_of(client.get("/nothing")) == (404, kind, None, "not_found")
    assert error_of(client.get("/echo"))[:2] == (405, kind)
    assert error_of(client.get("/mistake")) == (500, "server_error", None, None)
    assert "secret" not in client.get("/mistake").text


@pytest.mark.parametrize(
    ("name", "status", "headers"),
    [
        ("decided", 409, {"x-should-retry": "false"}),
        ("unfinished", 409, {"x-should-retry": "true", "retry-after": "1"}),
        ("away", 503, {"x-should-retry": "true", "retry-after": "2"}),
    ],
)
def test_errors_say_whether_to_retry(client, name, status, headers):
    """OpenAI's clients retry 409 by themselves unless they are told not to."""
    response = client.get(f"/raise/{name}")
    assert response.status_code == status
    assert {key: response.headers[key] for key in headers} == headers


def test_body_limit_is_exact_and_counts_chunks(client):
    """A body of the limit passes, a byte more does not, whether its length is declared or not."""

    def post(size: int, *, declared: bool):
        text = b'{"name":"%s"}' % (b"x" * (size - 11))
        assert len(text) == size
        return client.post(
            "/echo",
            content=text if declared else iter([text[:7], text[7:]]),
            headers={"content-type": "application/json"},
        )

    for declared in (True, False):
        assert post(LIMIT, declared=declared).status_code == 200
        assert error_of(post(LIMIT + 1, declared=declared)) == (413, "invalid_request_error", None, "body_too_large")


def test_streams_pass_untouched(client):
    """Parts arrive as they were sent; a failure in the middle cuts the stream, it adds nothing to it."""
    assert client.get("/stream").text == "abc"
    assert client.get("/stream?fail=true").text == "ab"


def test_requests_are_counted_by_route(client):
    """The label is the route, never the path: unknown paths share one."""

    def count(route: str, status_class: str) -> float:
        return metrics.HTTP_REQUESTS.labels(route, status_class)._value.get()

    before = count("/raise/{name}", "4xx"), count("unmatched", "4xx"), count("/mistake", "5xx")
    client.get("/raise/decided")
    client.get("/raise/unfinished")
    client.get("/nothing/17")
    client.get("/mistake")
    after = count("/raise/{name}", "4xx"), count("unmatched", "4xx"), count("/mistake", "5xx")
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 1]
