"""Pictures of the pages for the documentation: `python -m tests.web.screenshots docs/screenshots`.

The pages are the real ones in a real Chromium. What the chat says is scripted, so that the pictures change only when it
does; the console stands before a deployment that has been through a few rounds (tests/web/lived_in.py).
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.web import lived_in
from tests.web.chromium import chromium, visit
from tests.web.driving import ask, compare, good
from tests.web.fake_api import FakeApi

ANSWER = """A plumb line hangs **straight down**, so it tells when a wall does not.

1. Hang the bob from the top.
2. Wait until it is still.
3. Measure the gap above and below.

```python
def lean(top: float, bottom: float, height: float) -> float:
    \"\"\"Degrees off the vertical.\"\"\"
    return degrees(atan((top - bottom) / height))
```

| gap at the top | at the bottom | the wall |
|---|---|---|
| 50 mm | 50 mm | is plumb |
| 50 mm | 42 mm | leans out |
"""
DRAFTS = {
    "a": "Fill the pot, heat it to *just* below boiling, and let green tea steep for two minutes.",
    "b": "Put a tea bag in a cup and add hot water. Wait. **Done.**",
}
FATES = [
    ("fb_1", "thumb", 1, "used", "used in assistant@v2"),
    ("fb_2", "preference", "b", "waiting", "waiting for the next round"),
    ("fb_3", "rating", 4, "set_aside", "not used: it came sooner than the answer can be read"),
]
TASK = {
    "id": "task_1",
    "kind": "rank",
    "instructions": "Prefer what is **true**, then what is short.",
    "messages": [{"role": "user", "content": "What is a plumb line?"}],
    "answers": [
        {"side": "a", "content": "A weight on a string that shows the vertical."},
        {"side": "b", "content": "A line of plums."},
        {
            "side": "c",
            "content": "A cord with a metal bob at its end; masons hang it to see whether a wall stands upright.",
        },
    ],
}


def scripted() -> FakeApi:
    api = FakeApi()
    api.pieces = [ANSWER]
    api.drafts = DRAFTS
    api.tasks = [TASK]
    api.fates = [
        {
            "feedback": name,
            "kind": kind,
            "value": value,
            "created_at": f"2026-11-21T13:{50 - 7 * at}:00Z",
            "fate": fate,
            "reason": reason,
            "versions": [],
        }
        for at, (name, kind, value, fate, reason) in enumerate(FATES)
    ]
    return api


def welcome(page: Page) -> None:
    expect(page.get_by_role("heading", name="Your votes train")).to_be_visible()


def chat(page: Page) -> None:
    for title in ["Is my wall straight?", "What is a plumb line?"]:
        page.get_by_role("button", name="New chat").locator("visible=true").first.click() if title[0] == "W" else None
        ask(page, title)
        expect(good(page)).to_be_visible()
    good(page).click()
    expect(page.get_by_role("form", name="Why?")).to_be_visible()
    page.get_by_role("button", name="clear").click()
    page.wait_for_timeout(600)


def comparison(page: Page) -> None:
    compare(page, "How do I make tea?")


def votes(page: Page) -> None:
    page.get_by_label("Message", exact=True).press("Escape")
    page.keyboard.press("v")
    expect(page.get_by_role("dialog").get_by_text("Good answer")).to_be_visible()


def keys(page: Page) -> None:
    page.get_by_label("Message", exact=True).press("Control+/")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()


def tasks(page: Page) -> None:
    page.goto(page.url.split("#")[0] + "tasks")
    expect(page.get_by_role("heading", name="Rank the answers")).to_be_visible()
    page.keyboard.press("2")


def console(page: Page) -> None:
    expect(page.get_by_role("img", name="Evidence")).to_be_visible()


def console_versions(page: Page) -> None:
    page.keyboard.press("2")
    expect(page.get_by_role("region", name="Leaderboard").get_by_role("row").first).to_be_visible()


def console_feedback(page: Page) -> None:
    page.keyboard.press("3")
    expect(page.get_by_role("rowheader", name="preference")).to_be_visible()


def console_runs(page: Page) -> None:
    page.keyboard.press("4")
    expect(page.get_by_role("log", name="candidate.log")).to_be_visible()


def console_lineage(page: Page) -> None:
    page.keyboard.press("5")
    expect(page.locator(".lineage > li")).to_have_count(3)


def console_compare(page: Page) -> None:
    page.keyboard.press("6")
    expect(page.get_by_role("region", name="People")).to_be_visible()


def console_audit(page: Page) -> None:
    page.keyboard.press("7")
    expect(page.get_by_text("whole and in order")).to_be_visible()


def console_act(page: Page) -> None:
    page.keyboard.press("1")
    page.get_by_role("button", name="Promote v4 now…").click()
    page.get_by_label("Reason").fill("The judge and 140 people agree.")


SCENES: list[Callable[[Page], None]] = [welcome, chat, comparison, votes, keys, tasks]
CONSOLE: list[Callable[[Page], None]] = [console, console_versions, console_feedback, console_runs, console_lineage]
CONSOLE += [console_compare, console_audit, console_act]
LOOKS = {"light": ((1200, 800), "light"), "dark": ((1200, 800), "dark"), "phone": ((375, 740), "light")}


def shoot(
    browser: Browser, url: str, place: Path, scenes: list[Callable[[Page], None]], look: str, path: str = "/"
) -> None:
    """A picture of each scene, one after the other on one page."""
    (width, height), scheme = LOOKS[look]
    with visit(browser, url, path, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
        for scene in scenes:
            scene(page)
            page.wait_for_timeout(300)  # the fonts and the last frame
            page.screenshot(path=place / f"{scene.__name__.replace('_', '-')}-{look}.png")


def main(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    with chromium() as browser, tempfile.TemporaryDirectory() as home:
        for look in LOOKS:
            for scene in SCENES:
                with scripted().listening() as url:
                    shoot(browser, url, place, [scene], look)
        deployment = lived_in.lived_in(Path(home))
        try:
            url = deployment.replica().admin_url
            for look in LOOKS:
                shoot(browser, url, place, CONSOLE, look, "/console")
        finally:
            deployment.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
