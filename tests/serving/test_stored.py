"""Stored completions through OpenAI's client, over the fake engine: what is kept can be seen, labelled and deleted."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from core import keys
from core.access import Caller
from core.records import StoredRequest
from serving import stored
from serving.schemas import ChatBody
from serving.shown import Shown, stored_request
from tests.serving.conftest import FakeStack

ASK: Any = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}


@pytest.fixture
def client(stack: FakeStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=stack.live.url + "/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


def _chat(client: openai.OpenAI, **fields: Any) -> str:
    return str(client.chat.completions.create(**(ASK | fields)).id)


def test_a_completion_is_found_again(client: openai.OpenAI) -> None:
    """Text, version, usage, labels and who asked: as they were."""
    made = _chat(client, metadata={"page": "3"}, user="ann")
    found = client.chat.completions.retrieve(made)
    assert (found.id, found.object, found.model) == (made, "chat.completion", "assistant@v0")
    assert found.choices[0].message.content == "assistant@v0 assistant@v0 "
    assert found.choices[0].finish_reason == "length"
    assert found.usage is not None and (found.usage.prompt_tokens, found.usage.completion_tokens) == (3, 2)
    extra = found.to_dict()
    assert (extra["metadata"], extra["input_user"]) == ({"page": "3"}, "ann")
    [turn] = client.chat.completions.messages.list(made).data
    assert (turn.role, turn.content, turn.id) == ("user", "A dog is", f"{made}-0")


def test_a_stream_is_stored_too(client: openai.OpenAI) -> None:
    """The text is what its chunks add up to."""
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert client.chat.completions.retrieve(chunks[0].id).choices[0].message.content == text


def test_what_keeps_no_text_is_not_stored(client: openai.OpenAI) -> None:
    """`store: false`: not found, not listed, not to be deleted."""
    made = _chat(client, store=False)
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.retrieve(made)
    assert raised.value.code == "completion_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.delete(made)
    assert client.chat.completions.list().data == []


def test_asking_again_counts_against_the_answer(client: openai.OpenAI, stack: FakeStack) -> None:
    """By the label: once for each answer, by its own reader only, whichever version writes the next one. The record
    keeps it, also where no text is kept; a label that names no completion is a label."""

    def again(of: str, **fields: Any) -> str:
        return _chat(client, metadata={"regenerates": of}, **fields)

    first = _chat(client, user="ann")
    second = again(first, user="ann")
    again(first, user="ann", store=False)
    again(second, user="ben")
    nobodys = again("my own label")
    assert stack.client.hgetall(keys.REGENERATED) == {"0": "1"}
    assert stack.client.hget(keys.completion(first), "regenerated") == second
    last = again(second, user="ann", store=False)
    again(nobodys)
    assert stack.client.hgetall(keys.REGENERATED) == {"0": "3"}
    held = {name: json.loads(stack.client.hget(keys.completion(name), "record") or "") for name in (last, nobodys)}
    assert [it["regenerates"] for it in held.values()] == [second, None]
    assert client.chat.completions.retrieve(second).metadata == {"regenerates": first}


def test_pages_hold_everything_once(client: openai.OpenAI) -> None:
    """Oldest first, or newest first; the client's own iteration walks over all pages."""
    made = [_chat(client) for _ in range(7)]
    assert [each.id for each in client.chat.completions.list(limit=3)] == made
    assert [each.id for each in client.chat.completions.list(limit=2, order="desc")] == made[::-1]
    page = client.chat.completions.list(limit=3)
    assert (len(page.data), page.has_more) == (3, True)


def test_a_list_can_be_narrowed(client: openai.OpenAI, stack: FakeStack) -> None:
    """By version and by labels; all labels that are named must fit."""
    first = _chat(client, metadata={"page": "3", "run": "a"})
    stack.live.wait_for_live(stack.promote())
    second = _chat(client, metadata={"page": "3", "run": "b"})
    _chat(client, metadata={"page": "4"})

    def ids(**wanted: Any) -> list[str]:
        return [each.id for each in client.chat.completions.list(limit=1, **wanted)]

    assert ids(metadata={"page": "3"}) == [first, second]
    assert ids(metadata={"page": "3", "run": "b"}) == [second]
    assert ids(model="assistant@v0") == [first]
    assert ids(model="assistant@v9") == []


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "chatcmpl-none"}])
def test_bad_pages_name_their_field(client: openai.OpenAI, query: Any) -> None:
    """400, and 404 for a completion that is none."""
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as raised:
        client.chat.completions.list(**query)
    assert raised.value.param in set(query) | {f"query.{name}" for name in query}


def test_labels_are_replaced(client: openai.OpenAI) -> None:
    """The new ones are seen and searched; the record that training reads is untouched. null takes all away."""
    made = _chat(client, metadata={"page": "3"})
    updated = client.chat.completions.update(made, metadata={"seen": "yes"})
    assert updated.to_dict()["metadata"] == {"seen": "yes"}
    assert [each.id for each in client.chat.completions.list(metadata={"seen": "yes"})] == [made]
    assert client.chat.completions.list(metadata={"page": "3"}).data == []
    emptied = client.chat.completions.update(made, metadata=None)
    assert emptied.to_dict()["metadata"] == {}


def test_deleted_is_gone(client: openai.OpenAI, stack: FakeStack) -> None:
    """Nothing in Redis holds its words any more, neither the record nor the gate's prompts; a neighbour stays."""
    made = _chat(client, messages=[{"role": "user", "content": "a secret"}])
    other = _chat(client, messages=[{"role": "user", "content": "no secret"}])
    answer = client.chat.completions.delete(made)
    assert (answer.id, answer.deleted, answer.object) == (made, True, "chat.completion.deleted")
    assert stack.client.exists(keys.completion(made)) == 0
    prompts = [json.loads(fields["prompt"]) for _, fields in stack.client.xrange(keys.PROMPTS)]
    assert [prompt["messages"][0]["content"] for prompt in prompts] == ["no secret"]
    assert [each.id for each in client.chat.completions.list()] == [other]
    for call in (client.chat.completions.retrieve, client.chat.completions.delete):
        with pytest.raises(openai.NotFoundError):
            call(made)
    assert stack.client.smembers(keys.DELETED) == {made}


def test_a_late_final_record_brings_nothing_back(client: openai.OpenAI, stack: FakeStack) -> None:
    """What is written again after a trouble finds that the completion was deleted."""
    made = _chat(client)
    kept = stack.live.call(stored.StoredCompletions(stack.live.serving.redis).get(Caller(), made))
    client.chat.completions.delete(made)
    stack.live.call(stack.live.serving.records.close(kept.record))
    assert stack.client.exists(keys.completion(made)) == 0
    assert stack.client.zscore(keys.stored(""), made) is None


def test_what_is_being_written_is_not_there_yet(client: openai.OpenAI, stack: FakeStack) -> None:
    """404 until it has ended."""
    stack.engine.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        chat = pool.submit(_chat, client)
        stack.live.wait(lambda: bool(stack.client.keys(keys.completion("*"))), timeout_s=10)
        [key] = stack.client.keys(keys.completion("*"))
        made = key.removeprefix(keys.completion(""))
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.retrieve(made)
        assert client.chat.completions.list().data == []
        stack.engine.gate.set()
        assert client.chat.completions.retrieve(chat.result()).id == made


def test_a_blind_side_does_not_exist(client: openai.OpenAI, stack: FakeStack) -> None:
    """Before the vote no route shows or deletes it; once the comparison is revealed it is a completion like others."""
    comparison = stack.live.post("/v1/comparisons", {"messages": ASK["messages"], "max_tokens": 2}).json()
    sides = json.loads(stack.client.hget(keys.comparison(comparison["id"]), "record") or "")["completion_ids"]
    assert client.chat.completions.list().data == []
    for call in (client.chat.completions.retrieve, client.chat.completions.delete):
        with pytest.raises(openai.NotFoundError):
            call(sides[0])
    stack.client.hset(keys.comparison(comparison["id"]), "revealed", "fb_1")
    assert {each.id for each in client.chat.completions.list()} == set(sides)
    assert client.chat.completions.retrieve(sides[0]).id == sides[0]


def test_the_list_ends_with_the_window(client: openai.OpenAI, stack: FakeStack) -> None:
    """Older entries leave it when a new one comes."""
    old = _chat(client)
    stack.client.zadd(keys.stored(""), {old: 1.0})
    new = _chat(client)
    assert stack.client.zrange(keys.stored(""), 0, -1) == [new]
    assert 0 < stack.client.ttl(keys.stored("")) <= stack.settings.feedback_window_s


def test_without_redis_chat_goes_on(client: openai.OpenAI, stack: FakeStack) -> None:
    """503 that may be retried."""
    made = _chat(client)
    stack.store.stop()
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.retrieve(made)
    assert (raised.value.status_code, raised.value.code) == (503, "storage_unavailable")
    assert raised.value.response.headers["x-should-retry"] == "true"
    assert stack.live.chat().status_code == 200
    stack.store.start()


# --- what the record does not say -------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}


def test_only_unusual_requests_are_kept_apart() -> None:
    """Text alone stands in the record; `store: false` keeps nothing."""
    plain: Any = {"model": "assistant", "messages": [{"role": "user", "content": "x"}]}
    assert stored_request(ChatBody(**plain)) is None
    assert stored_request(ChatBody(**plain, tools=[TOOL], store=False)) is None
    tools = stored_request(ChatBody(**plain, tools=[TOOL], tool_choice="auto"))
    assert tools == StoredRequest(messages=plain["messages"], fields={"tools": [TOOL], "tool_choice": "auto"})
    shaped = stored_request(ChatBody(**plain, response_format={"type": "json_object"}))
    assert shaped == StoredRequest(messages=[], fields={"response_format": {"type": "json_object"}})


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_of_tools_are_kept_as_they_were_shown(streamed: bool) -> None:
    """Whole, or from deltas that come in pieces, of two calls and two choices."""
    shown = Shown()
    if streamed:

        def delta(index: int, *parts: Any, **delta: Any) -> None:
            shown.take([{"index": index, "delta": delta | {"tool_calls": list(parts)}, "finish_reason": None}])

        delta(0, role="assistant", content="")
        delta(0, {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": ""}})
        delta(1, content="Hello")
        delta(0, {"index": 0, "function": {"arguments": '{"city":'}})
        delta(0, {"index": 0, "function": {"arguments": '"Oslo"}'}}, {"index": 1, "id": "b", "function": {"name": "x"}})
        shown.take([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
    else:
        second = {"id": "b", "type": "function", "function": {"name": "x", "arguments": ""}}
        message = {"role": "assistant", "content": None, "tool_calls": [CALL, second], "refusal": None}
        shown.take([{"index": 0, "message": message, "finish_reason": "tool_calls"}])
        shown.take([{"index": 1, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": None}])
    assert shown.answers[0]["content"] is None
    assert [call["id"] for call in shown.answers[0]["tool_calls"]] == ["call_1", "b"]
    assert shown.answers[0]["tool_calls"][0] == CALL
    assert (shown.answers[1]["content"], shown.reasons) == ("Hello", {0: "tool_calls", 1: None})


def test_a_chat_with_tools_is_found_as_it_was_asked(client: openai.OpenAI) -> None:
    """All turns, in their parts, with the tools."""
    turns: Any = [
        {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ]
    made = _chat(client, messages=turns, tools=[TOOL])
    found = client.chat.completions.retrieve(made)
    assert found.to_dict()["tools"] == [TOOL]
    assert found.choices[0].message.content == "assistant@v0 assistant@v0 "
    asked = client.chat.completions.messages.list(made).data
    assert [turn.role for turn in asked] == ["user", "assistant", "tool"]
    assert (asked[0].content, len(asked[0].content_parts or [])) == ("Weather?", 2)
    assert client.chat.completions.messages.list(made, after=asked[0].id, limit=1).data[0].id == asked[1].id
