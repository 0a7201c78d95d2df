"""The built page on the whole API, with real sessions and a real Redis; only the engine is scripted."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core import keys
from tests.plumbline.replicas import Deployment, Replica, within
from tests.web.driving import answers, ask, good

pytestmark = pytest.mark.browser


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """With API keys: a visitor has none."""
    it = Deployment(tmp_path)
    it.key("chat")
    yield it
    it.stop()


@pytest.fixture
def replica(deployment: Deployment) -> Replica:
    started = deployment.replica()
    within(60, lambda: started.api.keys.known)
    return started


@pytest.fixture
def visit(browser: Browser, replica: Replica) -> Iterator[Page]:
    """Somebody's first look at the page. Whatever they do: no policy is violated, no error uncaught."""
    mistakes: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.add_init_script(
            "window.violations = [];"
            "document.addEventListener('securitypolicyviolation', (event) => violations.push(event.violatedDirective))"
        )
        page.goto(replica.url)
        yield page
        assert page.evaluate("violations") == []
        assert mistakes == []


def test_a_visitor_finds_everything_again(visit: Page, deployment: Deployment) -> None:
    """Chat, thumb and conversation are one anonymous rater's, in Redis and after a reload; no script sees the cookie,
    and what became of the vote is told."""
    ask(visit, "A dog is")
    good(visit).click()
    expect(good(visit)).to_have_attribute("aria-pressed", "true")
    visit.wait_for_load_state("networkidle")
    said = answers(visit).first.locator("p").first.inner_text()
    visit.reload()
    expect(answers(visit).locator("p").first).to_have_text(said)
    expect(good(visit)).to_have_attribute("aria-pressed", "true")

    client = deployment.store.client()
    [vote] = [json.loads(fields["event"]) for _, fields in client.xrange(keys.FEEDBACK)]
    [conversation] = client.keys(keys.conversation("*", "*"))
    rater = vote["rater"]
    assert rater.startswith("web-") and conversation.startswith(keys.conversation_prefix(rater))
    record = json.loads(client.hget(keys.completion(vote["target"]["id"]), "record") or "")
    assert (record["rater"], record["messages"][0]["content"]) == (rater, "A dog is")
    [cookie] = visit.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("plumbline_session", True, "Strict")
    assert "plumbline_session" not in visit.evaluate("document.cookie")
    told = visit.evaluate("fetch('/page/votes').then((answer) => answer.json())")
    assert [it["reason"] for it in told["data"]] == ["waiting for the next round"]
