"""What every response of ours has in common, seen through a small app."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field, field_validator

from core import http, metrics
from core.errors import AlreadyDecided, NotFinished, Unavailable

LIMIT = 1024


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    inner: dict[str, int] = {}
    tags: list[str] = Field([], max_length=2)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name == "mallory":
            raise ValueError("nobody is called that")
        return name


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


def test_allow_is_of_the_path_that_is_meant():
    """Of templates that fit the one that spells out most; what another one takes is not said of it."""
    app = FastAPI()
    http.install(app, max_body_bytes=100)
    for method, path in [("get", "/a/{x:path}"), ("delete", "/a/{x}"), ("post", "/a/{x:path}/b"), ("put", "/a/{x}/b")]:
        getattr(app, method)(path)(lambda x: x)
    client = TestClient(app)
    assert client.patch("/a/1/b").headers["allow"] == "POST, PUT"
    assert client.patch("/a/1").headers["allow"] == "DELETE, GET"
    assert client.get("/a/1/b").json() == "1/b"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({}, "The request has no body: send a JSON object."),
        ({"json": []}, "The body is no JSON object: send one, with the header `content-type: application/json`."),
        (
            {"content": b'{"name": "x"}', "headers": {"content-type": "application/x-www-form-urlencoded"}},
            "The body is no JSON object: send one, with the header `content-type: application/json`.",
        ),
        (
            {"content": b'{"name": ', "headers": {"content-type": "application/json"}},
            "The body is not valid JSON: Expecting value, at character 9.",
        ),
        ({"json": {}}, "Field 'name' is missing."),
        ({"json": {"nmae": "x", "name": "y"}}, "Unknown field 'nmae'."),
        ({"json": {"name": 1}}, "'name' should be a valid string."),
        ({"json": {"name": "x", "inner": 1}}, "'inner' should be a JSON object."),
        ({"json": {"name": "x", "inner": {r"\U": "b"}}}, r"'inner.\\U' should be a valid integer."),
        ({"json": {"name": "x", "tags": ["a", "b", "c"]}}, "'tags' should have at most 2 items, not 3."),
        ({"json": {"name": "mallory"}}, "'name': nobody is called that."),
    ],
)
def test_a_refusal_says_what_is_wrong_where(client, sent, message):
    """Field and fault in one sentence; a body that is none says what to send, as with `curl -d` without a header."""
    response = client.post("/echo", **sent)
    assert (response.status_code, response.json()["error"]["message"]) == (400, message)


def test_what_does_not_exist_is_named(client):
    """A path with a slip of the pen, and a method that the path does not take."""
    assert client.post("/ecko").json()["error"]["message"] == "There is no POST /ecko."
    assert client.put("/echo").json()["error"]["message"] == "/echo takes POST, not PUT."


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


# --- CORS -----------------------------------------------------------------------------------------------------------

ORIGIN = "https://app.example"


@pytest.fixture
def voting() -> Iterator[TestClient]:
    """A service that lets the pages of one origin vote."""
    app = FastAPI()
    http.install(app, max_body_bytes=LIMIT, cors_origins=[ORIGIN])

    @app.post(http.VOTES_PATH)
    async def vote(body: Body) -> Body:
        return body

    @app.get(http.VOTES_PATH)
    async def votes() -> list[str]:
        return ["somebody's"]

    @app.post("/v1/chat/completions")
    async def chat() -> None: ...

    with TestClient(app) as test_client:
        yield test_client


def preflight(client: TestClient, path: str, *, origin: str = ORIGIN, method: str = "POST"):
    asked = {"access-control-request-method": method, "access-control-request-headers": "authorization,content-type"}
    return client.options(path, headers={"origin": origin} | asked)


def allowed(response) -> str | None:
    return response.headers.get("access-control-allow-origin")


def test_a_page_of_a_named_origin_may_vote(voting):
    """The preflight lets the receipt's header through; the answer, and a refusal too, can be read by the page."""
    asked = preflight(voting, http.VOTES_PATH)
    assert (asked.status_code, allowed(asked)) == (200, ORIGIN)
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in asked.headers
    for body, status in [('{"name": "x"}', 200), ("{", 400), ("x" * (LIMIT + 1), 413)]:
        headers = {"origin": ORIGIN, "content-type": "application/json"}
        response = voting.post(http.VOTES_PATH, content=body, headers=headers)
        assert (response.status_code, allowed(response)) == (status, ORIGIN)
        assert response.headers["x-request-id"]
        assert "x-should-retry" in response.headers["access-control-expose-headers"]
        assert response.headers["vary"] == "Origin"


def test_a_page_may_do_nothing_but_vote(voting):
    """Another origin, another path, and reading what others voted: no browser shows the answer to the page."""
    assert allowed(preflight(voting, http.VOTES_PATH, origin="https://evil.example")) is None
    assert allowed(preflight(voting, http.VOTES_PATH, origin="null")) is None
    assert preflight(voting, http.VOTES_PATH, method="DELETE").status_code == 400
    assert allowed(preflight(voting, "/v1/chat/completions")) is None
    assert allowed(voting.get(http.VOTES_PATH, headers={"origin": ORIGIN})) is None
    assert allowed(voting.post("/v1/chat/completions", headers={"origin": ORIGIN})) is None


def test_allow_names_every_method_of_the_path(voting):
    """RFC 9110, 15.5.6; two routes of one path are one resource."""
    response = voting.delete(http.VOTES_PATH)
    assert error_of(response)[:2] == (405, "invalid_request_error")
    assert response.headers.get_list("allow") == ["GET, POST"]


def test_cors_is_off_by_default(client):
    """Who names no origin lets none in."""
    assert allowed(client.post("/echo", json={"name": "x"}, headers={"origin": ORIGIN})) is None
    assert preflight(client, http.VOTES_PATH).status_code == 404
