"""A real Chromium on the real page, with a scripted API behind it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request

from tests.web.chromium import chromium
from tests.web.fake_api import FakeApi

_WATCH = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One per module, not per session: while it lives, Playwright's event loop keeps others out of this thread."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def page(browser: Browser, api: FakeApi) -> Iterator[Page]:
    """The page, loaded. Whatever a test does: no other host is asked, no policy violated, no error uncaught."""
    asked: list[str] = []
    mistakes: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    with api.listening() as url, browser.new_context() as context:
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("request", note)
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.add_init_script(_WATCH)
        page.goto(url)
        yield page
        assert [address for address in asked if not address.startswith(f"{url}/")] == []
        assert page.evaluate("violations") == []
        assert mistakes == []
