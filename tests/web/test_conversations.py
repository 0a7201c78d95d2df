"""Conversations on the page: kept by the server, and nothing that was typed is ever lost."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.waiting import eventually
from tests.web.chromium import visit
from tests.web.driving import answers, ask, compare, good, settled
from tests.web.fake_api import FakeApi

pytestmark = pytest.mark.browser


def kept(api: FakeApi) -> list[str]:
    return [conversation["title"] for conversation in api.conversations.values()]


def entry(page: Page, title: str):
    return page.get_by_role("navigation", name="Conversations").get_by_role("button", name=title, exact=True)


def test_a_conversation_is_there_after_a_reload(page: Page, api: FakeApi) -> None:
    """Questions, answers, votes and what is on the way; the next question goes on from there."""
    ask(page, "What is a dog?")
    good(page).click()
    expect(good(page)).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Message", exact=True).fill("And a c")
    expect(entry(page, "What is a dog?")).to_be_visible()
    settled(page)
    page.reload()
    expect(answers(page).locator("p")).to_have_text("A dog is a pet.")
    expect(good(page)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Message", exact=True)).to_have_value("And a c")
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(2)
    assert [message["content"] for message in api.sent["/v1/chat/completions"][1]["messages"]] == [
        "What is a dog?",
        "A dog is a pet.",
        "And a cat?",
    ]


def test_conversations_are_listed_opened_renamed_and_deleted(page: Page, api: FakeApi) -> None:
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    page.get_by_role("button", name="New chat").click()
    ask(page, "What is a cat?")
    expect(good(page)).to_be_visible()
    entry(page, "What is a dog?").click()
    expect(page.get_by_role("main").get_by_text("What is a dog?")).to_be_visible()
    page.get_by_role("button", name="Options for What is a dog?").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_role("textbox", name="Title").fill("Dogs")
    page.keyboard.press("Enter")
    expect(entry(page, "Dogs")).to_be_visible()
    settled(page)
    assert sorted(kept(api)) == ["Dogs", "What is a cat?"]
    page.get_by_role("button", name="Options for Dogs").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    expect(entry(page, "What is a cat?")).to_be_visible()  # no dialog hides the list any more
    expect(entry(page, "Dogs")).to_have_count(0)
    expect(page.get_by_role("heading", name="Your votes train")).to_be_visible()
    assert kept(api) == ["What is a cat?"]


def test_all_conversations_can_be_deleted(page: Page, api: FakeApi) -> None:
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    page.get_by_role("button", name="Delete all conversations").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete all").click()
    expect(page.get_by_text("Your conversations are deleted.")).to_be_visible()
    expect(entry(page, "What is a dog?")).to_have_count(0)
    assert kept(api) == []


def test_asking_again_is_a_signal_and_keeps_both_answers(page: Page, api: FakeApi) -> None:
    """The request names the answer that was not good enough; either can be gone on from."""
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    api.pieces = ["A dog barks."]
    page.get_by_role("button", name="Another answer").click()
    expect(answers(page).locator("p")).to_have_text("A dog barks.")
    first, second = api.sent["/v1/chat/completions"]
    assert (first.get("metadata"), second["metadata"]) == (None, {"regenerates": "chatcmpl-1"})
    assert first["messages"] == second["messages"]
    page.get_by_role("button", name="Answer before").click()
    expect(answers(page).locator("p")).to_have_text("A dog is a pet.")
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(2)
    assert api.sent["/v1/chat/completions"][2]["messages"][1]["content"] == "A dog is a pet."


def test_an_edited_question_takes_the_place_of_the_old_one(page: Page, api: FakeApi) -> None:
    """What followed goes, and can be brought back."""
    ask(page, "What is a dog?")
    expect(good(page)).to_have_count(1)
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(2)
    page.get_by_role("button", name="Edit the question").first.click()
    page.get_by_label("The question, edited").fill("What is a horse?")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("main").get_by_text("What is a horse?")).to_be_visible()
    expect(page.get_by_role("main").get_by_text("And a cat?")).to_have_count(0)
    expect(good(page)).to_have_count(1)
    assert api.sent["/v1/chat/completions"][2]["messages"] == [{"role": "user", "content": "What is a horse?"}]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("main").get_by_text("And a cat?")).to_be_visible()
    expect(page.get_by_role("main").get_by_text("What is a dog?")).to_be_visible()


def test_what_could_not_be_saved_is_saved_later(page: Page, api: FakeApi) -> None:
    """The page says so, keeps it over a reload, and sends it when the server takes it again."""
    api.storage_is_away = True
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    expect(page.get_by_text("Not saved yet. Storage is away.")).to_be_visible()
    page.reload()
    expect(answers(page).locator("p")).to_have_text("A dog is a pet.")
    expect(page.get_by_text("Not saved yet. Storage is away.")).to_be_visible()
    api.storage_is_away = False
    page.get_by_role("button", name="Save now").click()
    expect(entry(page, "What is a dog?")).to_be_visible()
    assert kept(api) == ["What is a dog?"]


def begin(page: Page, api: FakeApi, question: str) -> str:
    """A new conversation with one question, answered and saved; its id."""
    page.get_by_role("button", name="New chat").click()
    ask(page, question)
    expect(good(page)).to_be_visible()
    settled(page)
    [found] = [name for name, it in api.conversations.items() if it["title"] == question]
    return found


def thumb(api: FakeApi, conversation: str) -> int | None:
    return api.conversations[conversation]["turns"][0]["answers"][0]["thumb"]


def test_a_question_may_come_before_the_session(browser: Browser, api: FakeApi) -> None:
    """On a slow line. It is answered once there is one, and nothing that arrives late takes its place."""
    api.conversations["conv_1"] = {"id": "conv_1", "title": "Of old", "updated_at": 1_790_000_000}
    api.held |= {"POST /page/session", "GET /page/conversations"}
    with api.listening() as url, visit(browser, url) as page:
        ask(page, "What is a dog?")
        expect(page.get_by_role("main").get_by_text("What is a dog?")).to_be_visible()
        api.held.remove("POST /page/session")
        expect(good(page)).to_be_visible()
        settled(page)
        api.held.clear()
        expect(entry(page, "Of old")).to_be_visible()
        expect(entry(page, "What is a dog?")).to_be_visible()
        page.reload()
        expect(answers(page).locator("p")).to_have_text("A dog is a pet.")


def test_a_late_vote_is_marked_where_it_was_given(page: Page, api: FakeApi) -> None:
    """Another conversation has been opened by then, whose answer stands in the same place."""
    dog, cat = begin(page, api, "What is a dog?"), begin(page, api, "What is a cat?")
    api.held.add("POST /v1/feedback")
    good(page).click()
    entry(page, "What is a dog?").click()
    expect(page.get_by_role("main").get_by_text("What is a dog?")).to_be_visible()
    api.held.clear()
    eventually(lambda: thumb(api, cat) == 1)
    expect(good(page)).to_have_attribute("aria-pressed", "false")
    assert thumb(api, dog) is None


def test_the_conversation_that_was_chosen_last_is_opened(page: Page, api: FakeApi) -> None:
    """Though that of an earlier click arrives after it. Nothing is asked between click and arrival."""
    dog, _ = begin(page, api, "What is a dog?"), begin(page, api, "What is a cat?")
    page.get_by_role("button", name="New chat").click()
    path = f"/page/conversations/{dog}"
    api.held.add(f"GET {path}")
    entry(page, "What is a dog?").click()
    ask(page, "And a horse?")
    expect(page.get_by_label("Message", exact=True)).to_have_value("And a horse?")
    entry(page, "What is a cat?").click()
    expect(page.get_by_role("main").get_by_text("What is a cat?")).to_be_visible()
    with page.expect_response(lambda it: it.url.endswith(path)) as late:
        api.held.clear()
    late.value.finished()
    entry(page, "What is a cat?").click()  # a round through the page, which by now has seen what came late
    expect(page.get_by_role("main").get_by_text("What is a cat?")).to_be_visible()
    ask(page, "And a horse?")
    expect(good(page)).to_have_count(2)
    assert len(api.sent["/v1/chat/completions"]) == 3


def test_a_conversation_that_is_deleted_while_it_is_saved_stays_deleted(page: Page, api: FakeApi) -> None:
    dog = begin(page, api, "What is a dog?")
    api.held.add(f"PUT /page/conversations/{dog}")
    with page.expect_request(lambda it: it.method == "PUT"):
        ask(page, "And a cat?")
    expect(good(page)).to_have_count(2)
    page.get_by_role("button", name="Options for What is a dog?").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Your votes train")).to_be_visible()
    with page.expect_response(lambda it: it.request.method == "PUT"):
        api.held.clear()
    eventually(lambda: kept(api) == [], within_s=15)
    expect(entry(page, "What is a dog?")).to_have_count(0)


def test_two_windows_lose_nothing(page: Page, api: FakeApi) -> None:
    """Who saves second goes on in a copy."""
    ask(page, "What is a dog?")
    expect(entry(page, "What is a dog?")).to_be_visible()
    settled(page)
    other = page.context.new_page()
    other.goto(page.url)
    expect(answers(other).locator("p")).to_have_text("A dog is a pet.")
    ask(other, "And a cat?")
    expect(good(other)).to_have_count(2)
    settled(other)
    ask(page, "And a horse?")
    expect(entry(page, "What is a dog? (copy)")).to_be_visible()
    settled(page)
    said = {it["title"]: [turn["question"] for turn in it["turns"]] for it in api.conversations.values()}
    assert said == {
        "What is a dog?": ["What is a dog?", "And a cat?"],
        "What is a dog? (copy)": ["What is a dog?", "And a horse?"],
    }


def test_a_comparison_waits_for_its_vote_over_a_reload(page: Page, api: FakeApi) -> None:
    compare(page, "What is a dog?")
    settled(page)
    page.reload()
    page.get_by_role("group", name="Which answer is better?").get_by_role("button", name="Both are bad").click()
    expect(page.get_by_role("main").get_by_text("You found both bad: assistant@v3 and assistant@v2.")).to_be_visible()
    assert [vote["value"] for vote in api.sent["/v1/feedback"]] == ["both_bad"]


def test_leaving_a_stream_keeps_what_came(page: Page, api: FakeApi) -> None:
    """Another conversation can be opened at once; the first has its half answer, which says so."""
    api.go_on.clear()
    ask(page, "What is a dog?")
    expect(answers(page)).to_have_text("A dog")
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("heading", name="Your votes train")).to_be_visible()
    assert api.streams_cut.wait(timeout=15)
    api.go_on.set()
    entry(page, "What is a dog?").click()
    expect(answers(page)).to_contain_text("stopped")
    expect(answers(page).locator("p")).to_have_text("A dog")


def test_a_token_that_is_no_longer_good_is_renewed(page: Page, api: FakeApi) -> None:
    ask(page, "What is a dog?")
    expect(good(page)).to_be_visible()
    settled(page)
    api.csrf = "csrf-2"
    ask(page, "And a cat?")
    expect(good(page)).to_have_count(2)


def test_a_page_that_lets_nobody_in_says_so(page: Page, api: FakeApi) -> None:
    api.page_is_open = False
    page.reload()
    expect(page.get_by_role("heading", name="This page is not open")).to_be_visible()
    expect(page.get_by_text("Visitors are not let in here.")).to_be_visible()
