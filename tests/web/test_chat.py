"""Chat on the page: streaming, turns, stop, errors, thumbs."""

import pytest
from playwright.sync_api import Page, expect

from tests.web.driving import answers, ask, bad, good, settled
from tests.web.fake_api import FakeApi

pytestmark = pytest.mark.browser


def test_an_answer_streams_in_and_names_its_version(page: Page, api: FakeApi) -> None:
    """Words appear while the server still writes; the version and the thumbs come with the end."""
    api.go_on.clear()
    ask(page, "What is a dog?")
    expect(answers(page)).to_have_text("A dog")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(good(page)).to_have_count(0)
    api.go_on.set()
    expect(answers(page).locator("p")).to_have_text("A dog is a pet.")
    expect(answers(page).get_by_text("assistant@v3")).to_be_visible()
    expect(good(page)).to_be_visible()
    (body,) = api.sent["/v1/chat/completions"]
    messages = [{"role": "user", "content": "What is a dog?"}]
    assert {"model": "assistant", "messages": messages, "stream": True} == body


def test_a_conversation_has_many_turns_and_can_be_started_afresh(page: Page, api: FakeApi) -> None:
    ask(page, "What is a dog?")
    expect(good(page)).to_have_count(1)
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(2)
    turns = [("user", "What is a dog?"), ("assistant", "A dog is a pet."), ("user", "And a cat?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert messages == api.sent["/v1/chat/completions"][1]["messages"]
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    ask(page, "Hello!")
    expect(good(page)).to_have_count(1)
    assert api.sent["/v1/chat/completions"][2]["messages"] == [{"role": "user", "content": "Hello!"}]


def test_shift_enter_starts_a_line_and_enter_sends(page: Page, api: FakeApi) -> None:
    box = page.get_by_label("Message", exact=True)
    box.press_sequentially("one")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    expect(box).to_have_value("one\ntwo")
    box.press("Enter")
    expect(box).to_have_value("")
    expect(good(page)).to_be_visible()
    assert api.sent["/v1/chat/completions"][0]["messages"][0]["content"] == "one\ntwo"


def test_stop_keeps_what_came_and_offers_no_vote(page: Page, api: FakeApi) -> None:
    """The server is told by the closed connection; what was written so far goes on as the answer."""
    api.go_on.clear()
    ask(page, "What is a dog?")
    expect(answers(page)).to_have_text("A dog")
    page.get_by_role("button", name="Stop").click()
    expect(answers(page).get_by_text("stopped")).to_be_visible()
    expect(good(page)).to_have_count(0)
    assert api.streams_cut.wait(timeout=15)
    api.go_on.set()
    ask(page, "Go on.")
    expect(good(page)).to_have_count(1)
    assert api.sent["/v1/chat/completions"][1]["messages"][1] == {"role": "assistant", "content": "A dog "}


def test_a_refused_question_can_be_tried_again(page: Page, api: FakeApi) -> None:
    """OpenAI's error.message is what the person reads; the question stays and works later."""
    api.refusals["/v1/chat/completions"] = (503, "No policy is live yet.")
    ask(page, "What is a dog?")
    expect(page.get_by_role("alert").get_by_text("No policy is live yet.")).to_be_visible()
    expect(page.get_by_role("main").get_by_text("What is a dog?")).to_be_visible()
    api.refusals.clear()
    page.get_by_role("button", name="Try again").click()
    expect(answers(page).locator("p")).to_have_text("A dog is a pet.")
    expect(page.get_by_text("No policy is live yet.")).to_have_count(0)


def test_a_refused_question_can_be_edited_and_is_not_sent_along(page: Page, api: FakeApi) -> None:
    api.refusals["/v1/chat/completions"] = (400, "The prompt is too long.")
    ask(page, "What is a dog?")
    expect(page.get_by_text("The prompt is too long.")).to_be_visible()
    api.refusals.clear()
    ask(page, "Hello!")
    expect(good(page)).to_have_count(1)
    assert api.sent["/v1/chat/completions"][1]["messages"] == [{"role": "user", "content": "Hello!"}]
    box = page.get_by_label("Message", exact=True)
    box.fill("typed since")
    page.get_by_role("button", name="Edit message").click()
    expect(box).to_have_value("What is a dog?\ntyped since")


def test_a_stream_that_breaks_keeps_what_came_and_says_why(page: Page, api: FakeApi) -> None:
    api.breaks_after = 1
    ask(page, "What is a dog?")
    expect(page.get_by_role("alert").get_by_text("The engine stopped.")).to_be_visible()
    expect(answers(page)).to_have_text("A dog")
    expect(good(page)).to_have_count(0)


def test_a_swap_becomes_visible(page: Page, api: FakeApi) -> None:
    expect(page.locator("#live")).to_have_text("Live policy: assistant@v3")
    api.live = "assistant@v4"
    expect(page.get_by_role("status")).to_have_text("Now serving assistant@v4")
    expect(page.locator("#live")).to_have_text("Live policy: assistant@v4")


def test_thumbs_vote_and_a_mind_can_change(page: Page, api: FakeApi) -> None:
    """Each press that changes something is one request; pressing the same thumb again sends nothing."""
    ask(page, "What is a dog?")
    good(page).click()
    expect(good(page)).to_have_attribute("aria-pressed", "true")
    good(page).click()
    bad(page).click()
    expect(bad(page)).to_have_attribute("aria-pressed", "true")
    expect(good(page)).to_have_attribute("aria-pressed", "false")
    settled(page)
    target = {"type": "completion", "id": "chatcmpl-1", "choice_index": 0}
    votes = [{"target": target, "kind": "thumb", "value": value} for value in (1, -1)]
    assert votes == api.sent["/v1/feedback"]


def test_a_thumb_that_was_not_saved_is_taken_back(page: Page, api: FakeApi) -> None:
    api.refusals["/v1/feedback"] = (503, "Feedback cannot be stored right now.")
    ask(page, "What is a dog?")
    good(page).click()
    expect(page.get_by_text("Your vote was not saved. Feedback cannot be stored right now.")).to_be_visible()
    expect(good(page)).to_have_attribute("aria-pressed", "false")
    api.refusals.clear()
    good(page).click()
    expect(good(page)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("was not saved")).to_have_count(0)


def test_an_answer_that_was_not_recorded_offers_no_vote(page: Page, api: FakeApi) -> None:
    api.feedback_status = "unavailable"
    ask(page, "What is a dog?")
    expect(page.get_by_text("Voting is off for this answer")).to_be_visible()
    expect(good(page)).to_have_count(0)
