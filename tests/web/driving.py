"""What a person does on the chat page, as functions; shared by its tests."""

from playwright.sync_api import Locator, Page, expect

from tests.waiting import eventually


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Enter")


def compare(page: Page, text: str) -> Locator:
    """Asks for a comparison; the group of vote buttons once both answers are shown."""
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Compare two answers").click()
    ballot = page.get_by_role("group", name="Which answer is better?")
    expect(ballot).to_be_visible()
    return ballot


def answers(page: Page) -> Locator:
    return page.get_by_role("article", name="Answer")


def good(page: Page) -> Locator:
    return page.get_by_role("button", name="Good answer")


def bad(page: Page) -> Locator:
    return page.get_by_role("button", name="Bad answer")


def settled(page: Page) -> None:
    """Waits until nothing is on its way to the server: no answer, no vote, no change of a conversation."""
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    eventually(lambda: page.evaluate("localStorage.getItem('plumbline.unsaved')") is None)
