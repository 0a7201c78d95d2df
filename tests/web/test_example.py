"""The example application in a real Chromium, over the real feedback API and a real Redis.

Only the chat is scripted: it writes the record that serving would have written, and answers.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, Response, expect

import feedback.app
from core import http, keys
from core.records import Feedback
from core.settings import Settings
from examples.thumbs.app import application
from feedback import store
from tests.feedback.conftest import completion_record

pytestmark = pytest.mark.browser
ANSWER = "A dog is a <b>pte</b>."


@contextmanager
def listening(app: FastAPI, place: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def place() -> tuple[socket.socket, str]:
    """A socket on a free port, and its origin."""
    bound = socket.create_server(("127.0.0.1", 0))
    return bound, f"http://127.0.0.1:{bound.getsockname()[1]}"


def service(redis_url: str, client: redis.Redis, origin: str) -> FastAPI:
    """Plumbline, whose chat is scripted; pages of `origin` may vote."""
    app = FastAPI()
    http.install(app, max_body_bytes=1 << 20, cors_origins=[origin])
    feedback.app.attach(app, redis_url, Settings())

    @app.post("/v1/chat/completions")
    def chat(body: dict[str, object]) -> dict[str, object]:
        choice = {"index": 0, "text": ANSWER, "token_ids": [70, 4], "finish_reason": "stop"}
        record = completion_record("chatcmpl-1", choices=[choice], rater=body["safety_identifier"])
        fields = {"record": record.to_json(), "outline": record.outline(), "state": record.state}
        client.hset(keys.completion(record.id), mapping=fields)
        return {"id": record.id, "choices": [{"message": {"role": "assistant", "content": ANSWER}}]}

    return app


@pytest.fixture
def open_page(browser: Browser, redis_server: str, redis_client: redis.Redis) -> Iterator[Callable[..., Page]]:
    """The example's page with a question asked; Plumbline lets its origin vote, unless another one is named."""
    (plumbline, plumbline_url), (example, example_url) = place(), place()
    with browser.new_context() as context:
        page, servers = context.new_page(), []

        def start(*, origin: str = example_url) -> Page:
            for each, where in [
                (service(redis_server, redis_client, origin), plumbline),
                (application(plumbline_url, key="sk-secret"), example),
            ]:
                servers.append(listening(each, where))
                servers[-1].__enter__()
            page.goto(example_url)
            page.get_by_label("Question").fill("A dog is")
            page.get_by_role("button", name="Ask").click()
            expect(page.locator("article .text")).to_have_text(ANSWER)
            return page

        yield start
        page.close()
        for server in servers:
            server.__exit__(None, None, None)


def stored(client: redis.Redis) -> list[Feedback]:
    return [vote.feedback for vote in store.log(client)[0]]


def test_a_thumb_and_a_correction_are_votes_of_the_visitor(
    open_page: Callable[..., Page], redis_client: redis.Redis
) -> None:
    """By receipt, in the visitor's name; another thumb supersedes the first; the answer's markup stays text."""
    page = open_page()
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_role("button", name="Good answer", pressed=True)).to_be_visible()
    page.get_by_role("button", name="Bad answer").click()
    expect(page.get_by_role("button", name="Bad answer", pressed=True)).to_be_visible()
    expect(page.get_by_role("button", name="Good answer", pressed=False)).to_be_visible()
    page.get_by_text("Correct it").click()
    page.get_by_label("The answer as it should be").fill("A dog is a pet.")
    page.get_by_role("button", name="Send the correction").click()
    expect(page.get_by_text("Thank you for the correction.")).to_be_visible()
    votes = stored(redis_client)
    assert [(vote.kind, vote.value) for vote in votes] == [
        ("thumb", 1),
        ("thumb", -1),
        ("correction", "A dog is a pet."),
    ]
    assert {vote.source for vote in votes} == {"receipt"}
    [visitor] = page.context.cookies()
    assert {vote.rater for vote in votes} == {visitor["value"]}
    assert votes[1].supersedes == votes[0].id
    assert page.locator("article b").count() == 0


def test_no_key_reaches_the_browser(open_page: Callable[..., Page]) -> None:
    """What the page sends carries a receipt; what it was sent holds no key."""
    page = open_page()
    answered: list[Response] = []
    page.on("response", lambda response: answered.append(response))
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("article")).to_have_count(2)
    page.get_by_role("button", name="Good answer").first.click()
    expect(page.get_by_text("Thank you.")).to_be_visible()
    posts = [response for response in answered if response.request.method == "POST"]
    sent = [response.request.headers.get("authorization", "") for response in posts]
    assert [header.startswith("Bearer v1.") for header in sent] == [False, True]
    assert not any("sk-secret" in text for text in [*sent, *(response.text() for response in posts), page.content()])


def test_a_page_of_another_origin_cannot_vote(open_page: Callable[..., Page], redis_client: redis.Redis) -> None:
    """Its browser stops it, the page says so, and nothing is stored."""
    page = open_page(origin="https://other.example")
    page.get_by_role("button", name="Good answer").click()
    problem = page.locator("article").get_by_role("alert")
    expect(problem).to_contain_text("Your vote was not stored")
    expect(problem).to_contain_text("PLUMBLINE_CORS_ORIGINS does not name http://127.0.0.1:")
    assert stored(redis_client) == []
