"""A real Chromium on the real page, with a scripted API behind it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.plumbline.replicas import Deployment
from tests.web.chromium import chromium, visit
from tests.web.fake_api import FakeApi


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
    """The page, loaded."""
    with api.listening() as url, visit(browser, url) as page:
        yield page


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The whole API with the fake engine and a real Redis."""
    with Deployment(tmp_path_factory.mktemp("deployment")) as it:
        yield it
