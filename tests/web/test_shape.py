"""Phone, keyboard and screen reader."""

import pytest
from playwright.sync_api import Page, expect

from tests.web.driving import ask, bad, compare, good
from tests.web.fake_api import FakeApi

pytestmark = pytest.mark.browser


def test_nothing_scrolls_sideways_on_a_phone(page: Page, api: FakeApi) -> None:
    """375 px: long words, wide code, errors and cards all stay inside the page."""
    page.set_viewport_size({"width": 375, "height": 740})
    api.pieces = ["w" * 300, f"\n\n```\n{'c' * 300}\n```\n\n- https://x.example/{'u' * 300}"]
    api.drafts = {"a": "w" * 300, "b": f"```\n{'c' * 300}\n```"}
    ask(page, "q" * 300)
    expect(good(page)).to_be_visible()
    ballot = compare(page, "And a cat?")
    expect(ballot.get_by_role("button", name="Bottom")).to_be_visible()
    widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert page.evaluate(widths) == [375, 375]
    page.keyboard.press("1")
    expect(page.locator(".card .version")).to_have_count(2)
    api.refusals["/v1/chat/completions"] = (400, "e" * 300)
    ask(page, "Again?")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert page.evaluate(widths) == [375, 375]


def test_the_page_works_by_keyboard_alone(page: Page, api: FakeApi) -> None:
    """Ask, leave the box, vote by key; go back, ask for a comparison, vote by key, go on writing."""
    page.keyboard.type("What is a dog?")
    page.keyboard.press("Enter")
    expect(bad(page)).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    expect(bad(page)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("m")
    page.keyboard.type("And a cat?")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("group", name="Which answer is better?")).to_be_focused()
    page.keyboard.press("2")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    assert [vote["value"] for vote in api.sent["/v1/feedback"]] == [-1, "tie"]


def test_a_finished_answer_is_read_out_once(page: Page, api: FakeApi) -> None:
    """The live region says each line once, whole."""
    api.pieces = ["One li", "ne.\nAnd ano", "ther."]
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    expect(page.get_by_role("log").locator("p")).to_have_text(["One line.", "And another."])


def test_the_end_stays_in_view_until_the_reader_scrolls_up(page: Page, api: FakeApi) -> None:
    """A stream follows its own end, leaves a reader alone who went up, and a new question goes back to the end."""
    api.pieces = [f"line {number}\n\n" for number in range(80)]
    ask(page, "What is a dog?")
    expect(good(page)).to_be_in_viewport()
    page.evaluate("scrollBy(0, -600)")
    expect(good(page)).not_to_be_in_viewport()
    two_frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(two_frames)
    before = page.evaluate("scrollY")
    page.evaluate("document.querySelector('.turn').append('one more line')")
    page.evaluate(two_frames)
    assert page.evaluate("scrollY") == before
    ask(page, "And a cat?")
    expect(good(page).nth(1)).to_be_in_viewport()
