"""The chat page on the real stack, in a real browser."""

import json

import pytest
from playwright.sync_api import expect

from core import keys
from tests.e2e.stack_process import StackProcess
from tests.web.chromium import chromium
from tests.web.driving import answers, ask, compare, good, settled

pytestmark = pytest.mark.browser


def test_chat_thumb_compare_and_reveal(stack: StackProcess) -> None:
    """A person chats, likes an answer, compares two and sees who wrote them; both votes are in the store."""
    before = stack.redis.xlen(keys.FEEDBACK)
    with chromium() as browser:
        page = browser.new_page()
        page.goto(stack.url)
        expect(page.get_by_text("assistant@v").first).to_be_visible()
        ask(page, "What is a ladder?")
        expect(answers(page).first).to_contain_text("assistant@v")
        good(page).first.click()
        settled(page)
        ballot = compare(page, "What is 2 plus 3?")
        ballot.get_by_role("button", name="Left").click()
        expect(page.get_by_text("Both are drafts of assistant@v").first).to_be_visible()

    events = [json.loads(entry["event"]) for _, entry in stack.redis.xrange(keys.FEEDBACK)][before:]
    assert [event["kind"] for event in events] == ["thumb", "preference"]


def test_page_is_served_under_a_strict_policy(stack: StackProcess) -> None:
    """Nothing may be loaded from elsewhere, and no script may stand in the page itself."""
    response = stack.client.get("/")
    assert response.headers["content-security-policy"].startswith("default-src 'self'")
    assert response.headers["x-content-type-options"] == "nosniff"
