"""What axe finds, and what the page tells whoever does not see it."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import web
from tests.web import lived_in, screenshots
from tests.web.chromium import visit
from tests.web.driving import compare
from tests.web.fake_api import FakeApi

pytestmark = pytest.mark.browser
AXE = web.directory().parent / "app/node_modules/axe-core/axe.min.js"
LOOKS = [("light", 1200), ("dark", 375)]


def axe(page: Page) -> list[str]:
    """Each violation that is serious or critical, with the elements that it is about."""
    assert AXE.exists(), "the page's tools are not here: run `make page-tools`"
    if not page.evaluate("'axe' in window"):
        page.evaluate(Path(AXE).read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    grave = [it for it in found if it["impact"] in ("serious", "critical")]
    return [f"{it['id']}: {json.dumps([node['html'][:200] for node in it['nodes']])}" for it in grave]


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_nothing_serious(browser: Browser, scheme: str, width: int) -> None:
    """In any state of any page, light or dark, wide or narrow."""
    found: dict[str, list[str]] = {}
    with (
        screenshots.scripted().listening() as url,
        browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
        ) as at,  # type: ignore[arg-type]
    ):
        for scene in screenshots.SCENES:
            page = at.new_page()
            page.goto(url)
            scene(page)
            found[scene.__name__] = axe(page)
            page.close()
    assert found == {scene.__name__: [] for scene in screenshots.SCENES}


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_nothing_serious_in_the_console(browser: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    """In any of its sections, with a dialog open, and where it asks for a key."""
    deployment = lived_in.lived_in(tmp_path)
    look = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "reduced_motion": "reduce"}
    found: dict[str, list[str]] = {}
    try:
        replica = deployment.replica()
        with visit(browser, replica.admin_url, "/console", **look) as page:
            for scene in screenshots.CONSOLE:
                scene(page)
                found[scene.__name__] = axe(page)
            _, key = deployment.key("read")
            replica.knows(key)
            expect(page.get_by_role("heading", name="The console needs a key")).to_be_visible()
            found["key"] = axe(page)
    finally:
        deployment.stop()
    assert found == {name: [] for name in found}


def test_nothing_on_the_page_tells_the_sides_apart_before_the_vote(page: Page, api: FakeApi) -> None:
    """No name, attribute or order comes from a policy: the two cards differ in their place and their text alone."""
    api.drafts = {"a": "Same.", "b": "Same."}
    api.reveal = {"a": "assistant@v3", "b": "assistant@v2"}
    compare(page, "What is a dog?")
    left, right = (
        card.evaluate("card => card.outerHTML").replace(*place)
        for card, place in zip(page.locator(".card").all(), [("Left", ""), ("Right", "")], strict=True)
    )
    assert left.replace("Top", "") == right.replace("Bottom", "")
    assert "assistant@v" not in page.get_by_role("main").evaluate("main => main.outerHTML")
    page.keyboard.press("1")
    expect(page.locator(".card .version")).to_have_count(2)


def test_all_keys_are_shown_and_single_ones_can_be_switched_off(page: Page, api: FakeApi) -> None:
    """WCAG 2.1.4. What the table names is what the page listens to; chords work in any case."""
    page.get_by_label("Message", exact=True).press("Control+/")
    dialog = page.get_by_role("dialog", name="Keyboard")
    expect(dialog.get_by_text("what became of my votes")).to_be_visible()
    dialog.get_by_role("switch").uncheck()
    page.keyboard.press("Escape")
    page.get_by_label("Message", exact=True).press("Escape")
    page.keyboard.press("v")
    page.keyboard.press("d")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Control+/")
    expect(dialog.get_by_role("switch")).not_to_be_checked()


def test_a_theme_can_be_chosen(page: Page, api: FakeApi) -> None:
    """The system's, light, dark; it stays over a reload."""
    page.get_by_label("Message", exact=True).press("Escape")
    page.keyboard.press("t")
    page.keyboard.press("t")
    dark = "getComputedStyle(document.documentElement).colorScheme"
    assert page.evaluate(dark) == "dark"
    page.reload()
    expect(page.get_by_role("heading", name="Your votes train")).to_be_visible()
    assert page.evaluate(dark) == "dark"
