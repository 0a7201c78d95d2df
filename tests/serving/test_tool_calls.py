"""Tool calls on the real engine: forced, chosen, streamed, and gone on from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest
from tests.serving.conftest import EngineStack
from tests.serving.test_conformance import NAMED, WEATHER, Answer, ask, longer, stream

pytestmark = pytest.mark.engine

__all__ = ["ask", "stream"]


@pytest.mark.parametrize("choice", [NAMED, "required"])
def test_a_forced_call_parses(ask: Callable[..., Answer], choice: Any) -> None:
    """Even a random model calls the function with arguments of its schema; OpenAI's finish reasons."""
    [got] = ask(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, max_tokens=200)["choices"]
    calls = got["message"]["tool_calls"]
    assert got["finish_reason"] == ("stop" if choice == NAMED else "tool_calls")
    for call in calls:
        assert (call["type"], call["function"]["name"]) == ("function", "weather")
        assert json.loads(call["function"]["arguments"])["city"] in ("Oslo", "Rome")
        assert call["id"]
    assert calls


@pytest.mark.parametrize("choice", [NAMED, "required"])
def test_a_forced_call_streams(stream: Callable[..., list[Answer]], choice: Any) -> None:
    """The first delta of a call has its id and name, the rest add up to its arguments."""
    chunks = stream(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, max_tokens=200)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    calls: dict[int, list[Answer]] = {}
    for call in (call for delta in deltas for call in delta.get("tool_calls") or []):
        calls.setdefault(call["index"], []).append(call)
    assert calls
    for parts in calls.values():
        assert parts[0]["id"] and parts[0]["function"]["name"] == "weather"
        arguments = "".join(part["function"].get("arguments") or "" for part in parts)
        assert json.loads(arguments)["city"] in ("Oslo", "Rome")
    assert not any(delta.get("content") for delta in deltas)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_chosen_call_is_parsed(engine_stack: EngineStack, streamed: bool) -> None:
    """`auto`: what the model writes in its own form becomes a call, and no text. A random model is made to write it."""
    written = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    fields: dict[str, Any] = {"tools": [WEATHER], "parallel_tool_calls": False, "max_tokens": 200, "stream": streamed}
    fields["structured_outputs"] = {"choice": [written]}
    response = engine_stack.live.chat(**fields)
    assert response.status_code == 200, response.text
    if streamed:
        lines = [line.removeprefix("data: ") for line in response.text.strip().split("\n\n")[:-1]]
        deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
        functions = [call["function"] for delta in deltas for call in delta.get("tool_calls") or []]
        name = "".join(each.get("name") or "" for each in functions)
        arguments = "".join(each.get("arguments") or "" for each in functions)
    else:
        [choice] = response.json()["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        [call] = choice["message"]["tool_calls"]
        name, arguments = call["function"]["name"], call["function"]["arguments"]
    assert (name, json.loads(arguments)["city"] in ("Oslo", "Rome")) == ("weather", True)


def test_a_conversation_goes_on_after_a_call(ask: Callable[..., Answer]) -> None:
    """The call and the tool's answer are turns of the prompt."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    turns = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ]
    assert longer(ask(messages=turns, tools=[WEATHER], tool_choice="none"), ask(messages=turns[:1]))


def test_tools_need_a_parser_and_a_template(tmp_path: Path) -> None:
    """Without `PLUMBLINE_TOOL_PARSER`, and for a base that would never see them, a request with tools is a 400."""
    from serving.engine import VllmEngine

    body = {"model": "assistant", "messages": [{"role": "user", "content": "x"}], "tools": [WEATHER]}
    for engine, param in ((VllmEngine(tmp_path), "tools_unavailable"), (VllmEngine(tmp_path, tool_parser="hermes"), 0)):
        with pytest.raises(InvalidRequest) as raised:
            engine.parse(body | {"tool_choice": "auto"})
        assert raised.value.param == "tools"
        assert raised.value.error_code == (param or "unsupported_parameter")
