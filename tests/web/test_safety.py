"""Whatever a model, an error or a person writes is only ever text on the page."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.web.driving import ask, compare, good
from tests.web.fake_api import FakeApi
from tests.web.payloads import PAYLOADS

pytestmark = pytest.mark.browser

_TAGS = re.compile(
    r"P|H3|EM|STRONG|DEL|CODE|PRE|UL|OL|LI|BLOCKQUOTE|A|BR|DIV|TABLE|THEAD|TBODY|TR|TH|TD"
    r"|FIGURE|FIGCAPTION|SPAN|BUTTON|svg|path"
)
_ATTRIBUTES = {
    "",
    "tabindex",
    "class",
    "type",
    "viewBox",
    "data-icon",
    "aria-hidden",
    "aria-label",
    "role",
    "start",
    "d",
}
_INVENTORY = """(place) => [...place.querySelectorAll("*")].flatMap((element) =>
    [[element.tagName, ""], ...[...element.attributes].map(({ name }) => [element.tagName, name])])"""


def hold_no_payload(page: Page, place: Locator) -> None:
    """Nothing ran; inside `place` are only the tags and attributes that the renderer makes; links are http(s)."""
    assert page.evaluate("window.ran") is None
    found = place.evaluate(_INVENTORY)
    assert {tag for tag, _ in found if not _TAGS.fullmatch(tag)} == set()
    assert {name for tag, name in found if tag != "A"} <= _ATTRIBUTES
    assert {name for tag, name in found if tag == "A"} <= {"", "href", "title", "target", "rel"}
    for link in place.get_by_role("link").all():
        assert (link.get_attribute("href") or "").startswith("https://elsewhere.example")
        assert "noopener" in (link.get_attribute("rel") or "")
    expect(place).to_contain_text("<script>window.ran=1</script>")


def test_hostile_output_is_only_text_in_an_answer(page: Page, api: FakeApi) -> None:
    """Streamed in pieces, so that every half-written state is on the page once too."""
    text = "\n\n".join(PAYLOADS)
    api.pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    api.live = "<img src=x onerror=window.ran=1>"
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    hold_no_payload(page, page.locator(".answer .prose"))
    expect(page.locator(".answer .version")).to_have_text("<img src=x onerror=window.ran=1>")


def test_hostile_output_is_only_text_in_a_comparison(page: Page, api: FakeApi) -> None:
    api.drafts = {"a": "\n\n".join(PAYLOADS), "b": "\n\n".join(reversed(PAYLOADS))}
    api.reveal = {"a": "<img src=x onerror=window.ran=1>", "b": "<svg/onload=window.ran=1>"}
    compare(page, "What is a dog?")
    page.keyboard.press("1")
    expect(page.locator(".card .version")).to_have_text(list(api.reveal.values()))
    hold_no_payload(page, page.locator(".card .prose").first)
    hold_no_payload(page, page.locator(".card .prose").last)


def test_a_hostile_question_or_error_is_only_text(page: Page, api: FakeApi) -> None:
    api.refusals["/v1/chat/completions"] = (400, "\n\n".join(PAYLOADS))
    ask(page, "<script>window.ran=1</script>")
    expect(page.get_by_role("alert")).to_contain_text("<script>")
    hold_no_payload(page, page.locator(".failure p"))
    hold_no_payload(page, page.locator(".question p"))
