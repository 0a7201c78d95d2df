"""Pictures of the page for the documentation: `python -m tests.web.screenshots docs/screenshots`.

The page is the real one in a real Chromium; what it says is scripted, so that the pictures change only when it does.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.web.chromium import chromium
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


SCENES: list[Callable[[Page], None]] = [welcome, chat, comparison, votes, keys, tasks]
LOOKS = {"light": ((1200, 800), "light"), "dark": ((1200, 800), "dark"), "phone": ((375, 740), "light")}


def shoot(browser: Browser, place: Path, scene: Callable[[Page], None], look: str) -> None:
    (width, height), scheme = LOOKS[look]
    with (
        scripted().listening() as url,
        browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme) as context,  # type: ignore[arg-type]
    ):
        page = context.new_page()
        page.goto(url)
        scene(page)
        page.wait_for_timeout(300)  # the fonts and the last frame
        page.screenshot(path=place / f"{scene.__name__}-{look}.png")


def main(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for scene in SCENES:
            for look in LOOKS:
                shoot(browser, place, scene, look)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
