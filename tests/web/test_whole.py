"""The page on the whole API, with the fake engine and a real Redis: what the scripted one promises is what there is."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from core import keys
from tests.plumbline.replicas import Deployment
from tests.web.driving import answers, ask, compare, good, settled

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(deployment: Deployment) -> str:
    return deployment.replica().url


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A visitor of their own. Whatever a test does, no policy is violated and no error uncaught."""
    mistakes: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.on("console", lambda said: mistakes.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(address)
        yield page
        assert mistakes == []


def test_a_visitor_chats_votes_and_comes_back(page: Page, deployment: Deployment) -> None:
    """Chat, thumb and why, stars, correction, another answer; all is there after a reload, and so are the votes."""
    ask(page, "What is a dog?")
    good(page).click()
    page.get_by_role("button", name="helpful").click()
    page.get_by_role("button", name="Send why").click()
    expect(page.get_by_role("form", name="Why?")).to_have_count(0)
    page.get_by_role("button", name="Rate this answer").click()
    page.get_by_role("button", name="5 of 5, excellent").click()
    page.get_by_role("button", name="Correct this answer").click()
    page.get_by_label("The answer as it should be").fill("A dog is a pet.")
    page.get_by_role("button", name="Send the correction").click()
    expect(answers(page).locator("p")).to_have_text("A dog is a pet.")
    page.get_by_role("button", name="Another answer").click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    settled(page)
    page.reload()
    page.get_by_role("button", name="Answer before").click()
    expect(answers(page).locator("p")).to_have_text("A dog is a pet.")
    expect(good(page)).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Message", exact=True).press("Escape")
    page.keyboard.press("v")
    rows = page.get_by_role("dialog").get_by_role("listitem")
    expect(rows.locator(".said")).to_have_text(["Corrected an answer", "Rated 5 of 5", "Good answer"])
    rows.nth(1).get_by_role("button", name="Take back").click()
    expect(rows.nth(1).locator(".fate")).to_have_text("taken back")
    assert deployment.store.client().xlen(keys.FEEDBACK) == 5


def test_a_question_before_the_session_is_the_visitors(page: Page) -> None:
    """Programs are answered here without a key; what the page asks waits for its session, so it can be voted on."""
    held: list[Route] = []
    page.context.clear_cookies()
    page.route("**/page/session", lambda route: held.append(route))
    with page.expect_request("**/page/session"):
        page.reload()
    ask(page, "What is a dog?")
    expect(page.get_by_role("main").get_by_text("What is a dog?")).to_be_visible()
    expect(page.locator("#live")).to_have_attribute("data-state", "live")  # others are answered meanwhile
    for each in held:
        each.continue_()
    good(page).click()
    settled(page)
    expect(good(page)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("was not saved")).to_have_count(0)


def test_a_comparison_and_its_reveal(page: Page) -> None:
    compare(page, "What is a dog?")
    expect(page.locator(".card .version")).to_have_count(0)
    page.keyboard.press("3")
    expect(page.locator(".card .version")).to_have_text(["assistant@v0", "assistant@v0"])
    settled(page)
    page.reload()
    expect(page.get_by_role("main").get_by_text("Thank you. Both are drafts of assistant@v0.")).to_be_visible()


def test_consent_and_conversations_are_the_visitors_own(page: Page, browser: Browser, address: str) -> None:
    """Another browser is somebody else: it sees no conversation of this one's, not even by its address."""
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    expect(page.get_by_role("navigation").get_by_role("button", name="What is a dog?", exact=True)).to_be_visible()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("menuitem", name="Your data").click()
    page.get_by_role("radio", name="No").check()
    expect(page.get_by_text("nothing of yours is trained on")).to_be_visible()
    with browser.new_context() as context:
        other = context.new_page()
        other.goto(page.url)
        expect(other.get_by_text("That conversation is not here any more.")).to_be_visible()
        expect(answers(other)).to_have_count(0)
    page.get_by_role("button", name="Delete all conversations").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete all").click()
    expect(page.get_by_text("Your conversations are deleted.")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Your votes train")).to_be_visible()


def test_the_workspace_knows_its_rater(page: Page, address: str) -> None:
    page.goto(f"{address}/tasks")
    expect(page.get_by_text("Nothing is left for you. Thank you.")).to_be_visible()
    expect(page.get_by_text("You rate as web-")).to_be_visible()
