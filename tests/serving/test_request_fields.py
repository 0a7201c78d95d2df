"""The fields of a chat request: none is unknown, none is dropped in silence, and the documented table is the code's."""

import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from core.errors import InvalidRequest
from serving.request_fields import HONOURED, NO_EFFECT, OURS, REFUSED, RESHAPING, check, for_engine
from serving.schemas import ChatBody
from tests.serving.conftest import FakeStack

ROOT = Path(__file__).parents[2]
ASKED: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}]}


def test_every_field_has_one_treatment() -> None:
    """The four sets share nothing."""
    sets = [HONOURED, NO_EFFECT, OURS, frozenset(REFUSED)]
    assert sum(map(len, sets)) == len(frozenset().union(*sets))
    assert set(RESHAPING) <= HONOURED


def test_openais_fields_are_all_known() -> None:
    """As the newest client in the environment spells them."""
    theirs = set(get_type_hints(CompletionCreateParamsNonStreaming))
    assert theirs <= HONOURED | NO_EFFECT | OURS | set(REFUSED)


def test_the_documented_table_is_the_codes() -> None:
    """Each row of docs/api.md names one field and its treatment; no row is missing and none is left over."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (honoured|no effect|refused) \|", (ROOT / "docs/api.md").read_text(), re.M))
    expected = dict.fromkeys(HONOURED | OURS, "honoured") | dict.fromkeys(NO_EFFECT, "no effect")
    assert rows == expected | dict.fromkeys(REFUSED, "refused")


@pytest.mark.parametrize("field", sorted(REFUSED))
def test_what_is_not_offered_is_refused(field: str) -> None:
    """With a value that asks for something; with one that asks for nothing, or null, it is as if it were not there."""
    with pytest.raises(InvalidRequest) as raised:
        check(ASKED | {field: {"asks": "for something"}})
    assert (raised.value.param, raised.value.error_code) == (field, "unsupported_parameter")
    for harmless in (*REFUSED[field].harmless, None):
        check(ASKED | {field: harmless})
        assert field not in for_engine(ASKED | {field: harmless})


def test_one_is_not_true() -> None:
    """Python says that they are equal; a caller who sends one means something else."""
    with pytest.raises(InvalidRequest):
        check(ASKED | {"include_reasoning": 1})
    with pytest.raises(InvalidRequest):
        check(ASKED | {"priority": False})
    check(ASKED | {"length_penalty": 1})


@pytest.mark.parametrize(
    ("field", "param"),
    [({"temprature": 1}, "temprature"), ({"stream_options": {"include_usge": True}}, "stream_options.include_usge")],
)
def test_what_nobody_knows_is_refused(field: dict[str, Any], param: str) -> None:
    """A typing error must not pass for a setting."""
    with pytest.raises(InvalidRequest) as raised:
        check(ASKED | field)
    assert (raised.value.param, raised.value.error_code) == (param, "unknown_parameter")


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_only_text_is_read(kind: str) -> None:
    """400 that says where the part stands."""
    parts = [{"type": "text", "text": "What is"}, {"type": kind, kind: {}}]
    with pytest.raises(InvalidRequest) as raised:
        check(ASKED | {"messages": [*ASKED["messages"], {"role": "user", "content": parts}]})
    assert (raised.value.param, raised.value.error_code) == ("messages.1.content.1", "unsupported_content")


@pytest.mark.parametrize(
    ("turn", "param"),
    [
        ({"role": "narrator", "content": "x"}, "messages.0.role"),
        ({"role": "function", "content": "x"}, "messages.0.role"),
        ({"content": "x"}, "messages.0.role"),
        ({"role": "user"}, "messages.0.content"),
        ({"role": "tool", "content": None}, "messages.0.content"),
    ],
)
def test_a_turn_that_templates_would_drop_is_refused(turn: dict[str, Any], param: str) -> None:
    """A role that no template knows, and a turn that says nothing; an assistant's may be a call alone."""
    with pytest.raises(InvalidRequest) as raised:
        check(ASKED | {"messages": [turn]})
    assert raised.value.param == param
    check(ASKED | {"messages": [{"role": "assistant", "tool_calls": []}]})


def test_the_engine_gets_what_it_is_to_honour() -> None:
    """Neither our own fields nor those without effect, and no null."""
    fields = ASKED | {"temperature": 0.5, "user": "ann", "session_id": "s", "top_k": None}
    assert for_engine(fields) == ASKED | {"temperature": 0.5}


def test_a_developer_is_the_system() -> None:
    """For the engine and for training alike: chat templates know the older name."""
    said = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    body = ChatBody(model="assistant", messages=said)
    assert [message["role"] for message in body.messages] == ["system", "user"]
    assert body.text is not None and body.text[0].role == "system"


@pytest.mark.parametrize(
    ("field", "trains"),
    [
        ({"documents": [{"text": "x"}]}, False),
        ({"truncate_prompt_tokens": 8}, False),
        ({"add_generation_prompt": False, "continue_final_message": True}, False),
        ({"add_generation_prompt": True, "continue_final_message": False, "tools": None}, True),
        ({"temperature": 0.2}, True),
    ],
)
def test_a_prompt_that_is_not_its_messages_trains_nothing(field: dict[str, Any], trains: bool) -> None:
    """Training renders the messages: it must not take another prompt for what was answered."""
    assert (ChatBody(**ASKED, **field).text is not None) is trains


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_leaves_nothing_behind(stack: FakeStack, stream: bool) -> None:
    """400 in OpenAI's shape before any byte of a stream; no record, no version in use."""
    response = stack.live.chat(stream=stream, echo=True)
    assert response.status_code == 400
    assert response.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": "echo",
        "code": "unsupported_parameter",
    }
    assert stack.live.serving.replica.in_flight == 0
    assert stack.client.keys("plumbline:completion:*") == []
