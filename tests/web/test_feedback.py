"""Votes on the page beside thumbs and comparisons: why, stars, corrections, what became of them, consent."""

import pytest
from playwright.sync_api import Page, expect

from tests.web.driving import answers, ask, bad, good, settled
from tests.web.fake_api import RATER, FakeApi

pytestmark = pytest.mark.browser


def votes(api: FakeApi) -> list[tuple[str, object]]:
    return [(vote["kind"], vote["value"]) for vote in api.sent["/v1/feedback"]]


def test_why_comes_after_the_vote(page: Page, api: FakeApi) -> None:
    """Though the vote is still on its way: the last one counts, and is to be the one with the reason."""
    ask(page, "What is a dog?")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/v1/feedback") else None)
    api.held.add("POST /v1/feedback")
    bad(page).click()
    why = page.get_by_role("form", name="Why?")
    why.get_by_role("button", name="wrong").click()
    why.get_by_role("button", name="Send why").click()
    expect(why.get_by_role("button", name="Send why")).to_have_attribute("aria-disabled", "true")
    assert len(sent) == 1
    api.held.clear()
    expect(why).to_have_count(0)
    assert [vote.get("reasons") for vote in api.sent["/v1/feedback"]] == [None, ["wrong"]]


def test_a_thumb_can_say_why(page: Page, api: FakeApi) -> None:
    """Reasons and words come after the vote, as the same vote with more said; what was written outlives a refusal."""
    ask(page, "What is a dog?")
    bad(page).click()
    settled(page)
    why = page.get_by_role("form", name="Why?")
    why.get_by_role("button", name="wrong").click()
    why.get_by_role("button", name="too long").click()
    why.get_by_label("In your words").fill("It is an animal.")
    api.refusals["/v1/feedback"] = (503, "Feedback cannot be stored right now.")
    why.get_by_role("button", name="Send why").click()
    expect(why.get_by_role("alert")).to_contain_text("Feedback cannot be stored right now.")
    expect(why.get_by_label("In your words")).to_have_value("It is an animal.")
    api.refusals.clear()
    why.get_by_role("button", name="Send why").click()
    expect(why).to_have_count(0)
    sent = api.sent["/v1/feedback"]
    assert "reasons" not in sent[0]
    assert sent[-1] == {
        "target": {"type": "completion", "id": "chatcmpl-1", "choice_index": 0},
        "kind": "thumb",
        "value": -1,
        "reasons": ["wrong", "too long"],
        "comment": "It is an animal.",
    }


def test_stars(page: Page, api: FakeApi) -> None:
    ask(page, "What is a dog?")
    page.get_by_role("button", name="Rate this answer").click()
    page.get_by_role("button", name="4 of 5, good").click()
    expect(page.get_by_role("button", name="Rate this answer: 4 of 5")).to_be_visible()
    assert votes(api) == [("rating", 4)]


def test_a_correction_stands_in_the_place_of_the_answer(page: Page, api: FakeApi) -> None:
    """A refused one stays in its field, over a reload too; a sent one is what the conversation goes on from."""
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    page.get_by_role("button", name="Correct this answer").click()
    box = page.get_by_label("The answer as it should be")
    expect(box).to_have_value("A dog is a pet.")
    box.fill("A dog is an **animal**.")
    api.refusals["/v1/feedback"] = (503, "Feedback cannot be stored right now.")
    box.press("Control+Enter")
    expect(answers(page).get_by_role("alert")).to_contain_text("Feedback cannot be stored right now.")
    api.refusals.clear()
    settled(page)
    page.reload()
    page.get_by_role("button", name="Correct this answer").click()
    expect(box).to_have_value("A dog is an **animal**.")
    page.get_by_role("button", name="Send the correction").click()
    expect(answers(page).locator("strong")).to_have_text("animal")
    expect(answers(page).get_by_text("corrected by you")).to_be_visible()
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(2)
    assert votes(api)[-1] == ("correction", "A dog is an **animal**.")
    assert api.sent["/v1/chat/completions"][1]["messages"][1]["content"] == "A dog is an **animal**."


def test_what_became_of_my_votes(page: Page, api: FakeApi) -> None:
    """Each says in which version it is, or why in none, and can be taken back."""
    told = {"created_at": "2026-11-21T13:16:37Z", "versions": [], "value": 1}
    api.fates = [
        told | {"feedback": "fb_1", "kind": "thumb", "fate": "used", "reason": "used in assistant@v2"},
        told | {"feedback": "fb_2", "kind": "rating", "fate": "set_aside", "reason": "not used: it came too soon"},
        told | {"feedback": "fb_3", "kind": "preference", "fate": "waiting", "reason": None},
    ]
    page.get_by_label("Message", exact=True).press("Escape")
    page.keyboard.press("v")
    rows = page.get_by_role("dialog", name="What became of my votes").get_by_role("listitem")
    expect(rows.locator(".fate")).to_have_text(
        ["used in assistant@v2", "not used: it came too soon", "waits for the next round"]
    )
    api.held |= {"DELETE /v1/feedback/fb_2", "DELETE /v1/feedback/fb_3"}
    for row in (1, 2):
        rows.nth(row).get_by_role("button", name="Take back").click()
    api.held.clear()
    expect(rows.locator(".fate")).to_have_text(["used in assistant@v2", "taken back", "taken back"])
    page.keyboard.press("Escape")
    expect(rows).to_have_count(0)


def test_consent(page: Page, api: FakeApi) -> None:
    """Nothing is chosen for who never said; what is said is sent in the session's name and stands after a reload."""
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("menuitem", name="Your data").click()
    expect(page.get_by_role("radio", checked=True)).to_have_count(0)
    page.get_by_role("radio", name="No").check()
    expect(page.get_by_text("nothing of yours is trained on")).to_be_visible()
    assert api.sent[f"/v1/raters/{RATER}/consent"] == [{"train": False}]
    page.reload()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("menuitem", name="Your data").click()
    expect(page.get_by_role("radio", name="No")).to_be_checked()
