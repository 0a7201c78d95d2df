"""Whatever a model, an error or a person writes is only ever text on the page."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.web.driving import ask, compare, good
from tests.web.fake_api import FakeApi

pytestmark = pytest.mark.browser

_HOSTILE = [
    "<img src=x onerror=window.ran=1>",
    "<script>window.ran=1</script>",
    "<svg/onload=window.ran=1>",
    "<iframe srcdoc='<script>parent.ran=1</script>'></iframe>",
    "<a href='javascript:window.ran=1'>a</a>",
    "<style>@import url(https://elsewhere.example/x.css);</style>",
    "<base href=https://elsewhere.example><form action=/><input autofocus onfocus=window.ran=1></form>",
    "![picture](https://elsewhere.example/pixel.png)",
    '![picture](x" onerror="window.ran=1)',
    "[click](javascript:window.ran=1)",
    "[click]( JaVaScRiPt:window.ran=1)",
    "[click](&#106;avascript:window.ran=1)",
    "[click](data:text/html,<script>window.ran=1</script>)",
    '[click](https://elsewhere.example/"onmouseover="window.ran=1)',
    "[<img src=x onerror=window.ran=1>](https://elsewhere.example/)",
    "**<img src=x onerror=window.ran=1>**",
    "# <img src=x onerror=window.ran=1>",
    "`<img src=x onerror=window.ran=1>`",
    "- > <img src=x onerror=window.ran=1>",
    '```"><img src=x onerror=window.ran=1>\n<script>window.ran=1</script>\n```',
]
_PROSE = {"P", "H3", "EM", "STRONG", "CODE", "PRE", "UL", "LI", "BLOCKQUOTE", "A", "BR", "DIV"}
_INVENTORY = """(place) => [...place.querySelectorAll("*")].flatMap((element) =>
    [[element.tagName, ""], ...[...element.attributes].map(({ name }) => [element.tagName, name])])"""


def hold_no_payload(page: Page, place: Locator) -> None:
    """Nothing ran; inside `place` are only the tags and attributes that the renderer makes; links are http(s)."""
    assert page.evaluate("window.ran") is None
    found = place.evaluate(_INVENTORY)
    assert {tag for tag, _ in found} <= _PROSE
    assert {name for tag, name in found if tag != "A"} <= {"", "tabindex", "class"}
    assert {name for tag, name in found if tag == "A"} <= {"", "href", "title", "target", "rel"}
    for link in place.get_by_role("link").all():
        assert (link.get_attribute("href") or "").startswith("https://elsewhere.example")
        assert "noopener" in (link.get_attribute("rel") or "")
    expect(place).to_contain_text("<script>window.ran=1</script>")


def test_hostile_output_is_only_text_in_an_answer(page: Page, api: FakeApi) -> None:
    """Streamed in pieces, so that every half-written state is on the page once too."""
    text = "\n\n".join(_HOSTILE)
    api.pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    api.live = "<img src=x onerror=window.ran=1>"
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    hold_no_payload(page, page.locator(".answer .prose"))
    expect(page.locator(".answer .version")).to_have_text("<img src=x onerror=window.ran=1>")


def test_hostile_output_is_only_text_in_a_comparison(page: Page, api: FakeApi) -> None:
    api.drafts = {"a": "\n\n".join(_HOSTILE), "b": "\n\n".join(reversed(_HOSTILE))}
    api.reveal = {"a": "<img src=x onerror=window.ran=1>", "b": "<svg/onload=window.ran=1>"}
    compare(page, "What is a dog?")
    page.keyboard.press("1")
    expect(page.locator(".card .version")).to_have_text(list(api.reveal.values()))
    hold_no_payload(page, page.locator(".card .prose").first)
    hold_no_payload(page, page.locator(".card .prose").last)


def test_a_hostile_question_or_error_is_only_text(page: Page, api: FakeApi) -> None:
    api.refusals["/v1/chat/completions"] = (400, "\n\n".join(_HOSTILE))
    ask(page, "<script>window.ran=1</script>")
    expect(page.get_by_role("alert")).to_contain_text("<script>")
    hold_no_payload(page, page.locator(".failure p"))
    hold_no_payload(page, page.locator(".question"))
