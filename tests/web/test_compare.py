"""Blind comparisons on the page: two answers, one vote, then the versions."""

import pytest
from playwright.sync_api import Page, expect

from tests.web.driving import ask, compare, good
from tests.web.fake_api import FakeApi

pytestmark = pytest.mark.browser


def test_a_comparison_is_blind_until_the_vote(page: Page, api: FakeApi) -> None:
    """Two answers, no version; after the vote who wrote which, and the chosen one goes on."""
    ballot = compare(page, "What is a dog?")
    conversation = page.get_by_role("main")
    expect(page.locator(".card .prose")).to_have_text(["A dog is a pet.", "A dog is a friend."])
    expect(conversation).not_to_contain_text("assistant@")
    ballot.get_by_role("button", name="Right is better").click()
    expect(page.locator(".card .version")).to_have_text(["assistant@v3", "assistant@v2"])
    expect(conversation.get_by_text("Thank you. You preferred assistant@v2 to assistant@v3.")).to_be_visible()
    (vote,) = api.sent["/v1/feedback"]
    assert vote["target"] == {"type": "comparison", "id": "cmp_1"}
    assert (vote["kind"], vote["value"]) == ("preference", "b")
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(1)
    turns = [("user", "What is a dog?"), ("assistant", "A dog is a **friend**."), ("user", "And a cat?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert messages == api.sent["/v1/chat/completions"][0]["messages"]


@pytest.mark.parametrize(
    ("key", "value", "goes_on"),
    [
        ("1", "a", "A dog is a pet."),
        ("2", "tie", "A dog is a pet."),
        ("3", "b", "A dog is a **friend**."),
        ("ArrowLeft", "a", "A dog is a pet."),
        ("=", "tie", "A dog is a pet."),
        ("ArrowRight", "b", "A dog is a **friend**."),
    ],
)
def test_a_key_is_a_vote(page: Page, api: FakeApi, key: str, value: str, goes_on: str) -> None:
    """After a tie the left answer goes on."""
    compare(page, "What is a dog?")
    page.keyboard.press(key)
    expect(page.get_by_role("main").get_by_text("Thank you.")).to_be_visible()
    assert [value] == [vote["value"] for vote in api.sent["/v1/feedback"]]
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(1)
    assert goes_on == api.sent["/v1/chat/completions"][0]["messages"][1]["content"]


def test_typing_is_never_a_vote_and_nothing_typed_is_lost(page: Page, api: FakeApi) -> None:
    """Before the vote the next question can be written, not sent."""
    ballot = compare(page, "What is a dog?")
    box = page.get_by_label("Message", exact=True)
    box.press_sequentially("1 = 2 or 3?")
    box.press("Enter")
    expect(box).to_have_value("1 = 2 or 3?")
    expect(ballot).to_be_visible()
    assert "/v1/feedback" not in api.sent
    assert "/v1/chat/completions" not in api.sent


def test_a_vote_that_was_not_saved_can_be_sent_again_or_skipped(page: Page, api: FakeApi) -> None:
    """The versions stay hidden as long as the server did not reveal them."""
    api.refusals["/v1/feedback"] = (503, "Feedback cannot be stored right now.")
    ballot = compare(page, "What is a dog?")
    ballot.get_by_role("button", name="Tie").click()
    expect(page.get_by_text("Your vote was not saved. Feedback cannot be stored right now.")).to_be_visible()
    ballot.get_by_role("button", name="Skip").click()
    expect(ballot).to_have_count(0)
    expect(page.get_by_role("main")).not_to_contain_text("assistant@")
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(1)
    assert api.sent["/v1/chat/completions"][0]["messages"][1]["content"] == "A dog is a pet."


def test_both_answers_are_streamed(page: Page, api: FakeApi) -> None:
    """What each side has so far is in view, blind and without a vote, until both have ended."""
    api.go_on.clear()
    page.get_by_label("Message", exact=True).fill("What is a dog?")
    page.get_by_label("Message", exact=True).press("Control+Enter")
    expect(page.locator(".card .prose")).to_have_text(["A", "A"])
    expect(page.locator(".card .prose[aria-busy]")).to_have_count(2)
    expect(page.get_by_role("group", name="Which answer is better?")).to_have_count(0)
    assert api.sent["/v1/comparisons"][0]["stream"] is True
    api.go_on.set()
    expect(page.get_by_role("group", name="Which answer is better?")).to_be_visible()
    expect(page.locator(".card .prose")).to_have_text(["A dog is a pet.", "A dog is a friend."])
    expect(page.locator(".card .prose[aria-busy]")).to_have_count(0)


def test_half_a_comparison_is_none(page: Page, api: FakeApi) -> None:
    """A stream that fails leaves no card to vote on; tried again, it works."""
    api.breaks_after = 1
    page.get_by_label("Message", exact=True).fill("What is a dog?")
    page.get_by_label("Message", exact=True).press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("The engine stopped.")
    expect(page.locator(".card")).to_have_count(0)
    api.breaks_after = None
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("group", name="Which answer is better?")).to_be_visible()


def test_a_comparison_that_a_task_holds_stays_blind(page: Page, api: FakeApi) -> None:
    """The vote is saved without a reveal, and the page says why it names nobody."""
    api.reveal = {}
    ballot = compare(page, "What is a dog?")
    ballot.get_by_role("button", name="Right is better").click()
    expect(page.get_by_role("main")).to_contain_text("Thank you. Others are still being asked about these answers")
    expect(page.locator(".card.chosen")).to_have_count(1)
    expect(page.locator(".card .version")).to_have_count(0)


def test_a_comparison_can_be_stopped_and_tried_again(page: Page, api: FakeApi) -> None:
    api.go_on.clear()
    page.get_by_label("Message", exact=True).fill("What is a dog?")
    page.get_by_label("Message", exact=True).press("Control+Enter")
    expect(page.locator(".card")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_contain_text("Stopped.")
    api.go_on.set()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("group", name="Which answer is better?")).to_be_visible()
