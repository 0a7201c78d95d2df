"""The built page on the whole API, with real sessions and a real Redis; only the engine is scripted."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core import keys
from tests.plumbline.replicas import Deployment, Replica
from tests.waiting import eventually
from tests.web.chromium import visit
from tests.web.driving import answers, ask, good, settled

pytestmark = pytest.mark.browser


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """With API keys: a visitor has none."""
    with Deployment(tmp_path) as it:
        it.key("chat")
        yield it


@pytest.fixture
def replica(deployment: Deployment) -> Replica:
    started = deployment.replica()
    eventually(lambda: started.api.keys.known)
    return started


@pytest.fixture
def first_visit(browser: Browser, replica: Replica) -> Iterator[Page]:
    """Somebody's first look at the page."""
    with visit(browser, replica.url) as page:
        yield page


def test_a_visitor_finds_everything_again(first_visit: Page, deployment: Deployment) -> None:
    """Chat, thumb and conversation are one anonymous rater's, in Redis and after a reload; no script sees the cookie,
    and what became of the vote is told."""
    ask(first_visit, "A dog is")
    good(first_visit).click()
    expect(good(first_visit)).to_have_attribute("aria-pressed", "true")
    settled(first_visit)
    said = answers(first_visit).first.locator("p").first.inner_text()
    first_visit.reload()
    expect(answers(first_visit).locator("p").first).to_have_text(said)
    expect(good(first_visit)).to_have_attribute("aria-pressed", "true")

    client = deployment.store.client()
    [vote] = [json.loads(fields["event"]) for _, fields in client.xrange(keys.FEEDBACK)]
    [conversation] = client.keys(keys.conversation("*", "*"))
    rater = vote["rater"]
    assert rater.startswith("web-") and conversation.startswith(keys.conversation_prefix(rater))
    record = json.loads(client.hget(keys.completion(vote["target"]["id"]), "record") or "")
    assert (record["rater"], record["messages"][0]["content"]) == (rater, "A dog is")
    [cookie] = first_visit.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("plumbline_session", True, "Strict")
    assert "plumbline_session" not in first_visit.evaluate("document.cookie")
    told = first_visit.evaluate("fetch('/page/votes').then((answer) => answer.json())")
    assert [it["reason"] for it in told["data"]] == ["waiting for the next round"]
