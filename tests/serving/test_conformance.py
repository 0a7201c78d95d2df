"""OpenAI's request on the real engine: every honoured field does what it says, and each answer has OpenAI's shape."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from transformers import AutoTokenizer

from serving.request_fields import HONOURED, NO_EFFECT, OURS, REFUSED
from tests.serving import tiny
from tests.serving.conftest import EngineStack

pytestmark = pytest.mark.engine

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
NAMED = {"type": "function", "function": {"name": "weather"}}
Answer = dict[str, Any]


@pytest.fixture
def ask(engine_stack: EngineStack) -> Callable[..., Answer]:
    """One chat, whole: 8 tokens with a fixed seed unless the fields say otherwise."""

    def asked(**fields: Any) -> Answer:
        response = engine_stack.live.chat(**({"max_tokens": 8, "seed": 5} | fields))
        assert response.status_code == 200, response.text
        answer: Answer = response.json()
        return answer

    return asked


@pytest.fixture
def stream(engine_stack: EngineStack) -> Callable[..., list[Answer]]:
    """The chunks of one chat, which must end with `[DONE]` and keep one identity."""

    def asked(**fields: Any) -> list[Answer]:
        response = engine_stack.live.chat(**({"max_tokens": 8, "seed": 5, "stream": True} | fields))
        assert response.status_code == 200, response.text
        *lines, done = response.text.strip().split("\n\n")
        assert done == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        return chunks

    return asked


def _text(answer: Answer) -> str:
    content: str = answer["choices"][0]["message"]["content"]
    return content


def _ids(answer: Answer) -> list[int]:
    ids: list[int] = answer["choices"][0]["token_ids"]
    return ids


def _id_of(stack: EngineStack, number: int) -> int:
    return tiny.marker_token(stack.base, number)


# --- the table --------------------------------------------------------------------------------------------------------


def test_vllms_fields_are_all_known() -> None:
    """A new vLLM with a new field fails here, before that field is dropped in silence."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    assert set(ChatCompletionRequest.model_fields) <= HONOURED | NO_EFFECT | OURS | set(REFUSED)


Effect = Callable[[Answer, Answer], bool]


def longer(answer: Answer, plain: Answer) -> bool:
    return bool(answer["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"])


def _shorter(answer: Answer, plain: Answer) -> bool:
    return bool(answer["usage"]["prompt_tokens"] < plain["usage"]["prompt_tokens"])


def _differs(answer: Answer, plain: Answer) -> bool:
    return _text(answer) != _text(plain)


def _tokens(answer: Answer, _: Answer) -> int:
    count: int = answer["usage"]["completion_tokens"]
    return count


CASES: dict[str, tuple[dict[str, Any], Effect]] = {
    # each with the fields of a request, and what must then hold of the answer beside the one without them
    "temperature": ({"temperature": 0.1}, _differs),
    "top_p": ({"top_p": 0.01}, _differs),
    "top_k": ({"top_k": 1}, _differs),
    "min_p": ({"min_p": 1.0}, _differs),
    "seed": ({"seed": 6}, _differs),
    "presence_penalty": ({"presence_penalty": 2.0, "max_tokens": 60}, _differs),
    "frequency_penalty": ({"frequency_penalty": 2.0, "max_tokens": 60}, _differs),
    "repetition_penalty": ({"repetition_penalty": 5.0}, _differs),
    "n": ({"n": 3}, lambda answer, _: [choice["index"] for choice in answer["choices"]] == [0, 1, 2]),
    "max_tokens": ({"max_tokens": 3}, lambda answer, _: _tokens(answer, _) == 3),
    "max_completion_tokens": ({"max_completion_tokens": 2}, lambda answer, _: _tokens(answer, _) == 2),
    "min_tokens": ({"min_tokens": 6, "logit_bias": {"END": 100}}, lambda answer, _: _tokens(answer, _) == 7),
    "ignore_eos": ({"ignore_eos": True, "logit_bias": {"END": 100}}, lambda answer, _: _tokens(answer, _) == 8),
    "logit_bias": ({"logit_bias": {"M0": 100}}, lambda answer, _: _text(answer) == "<marker0>" * 8),
    "allowed_token_ids": ({"allowed_token_ids": ["M1"]}, lambda answer, _: _text(answer) == "<marker1>" * 8),
    "bad_words": (
        {"bad_words": ["<marker0>"], "allowed_token_ids": ["M0", "M1"]},
        lambda answer, _: _text(answer) == "<marker1>" * 8,
    ),
    "stop": ({"stop": ["<marker2>"], "logit_bias": {"M2": 100}}, lambda answer, _: _text(answer) == ""),
    "stop_token_ids": (
        {"stop_token_ids": ["M2"], "logit_bias": {"M2": 100}},
        lambda answer, _: _tokens(answer, _) == 1,
    ),
    "include_stop_str_in_output": (
        {"include_stop_str_in_output": True, "stop": ["<marker2>"], "logit_bias": {"M2": 100}},
        lambda answer, _: _text(answer) == "<marker2>",
    ),
    "skip_special_tokens": (
        {"skip_special_tokens": False, "allowed_token_ids": ["USER"]},
        lambda answer, _: _text(answer) == "<user>" * 8,
    ),
    "spaces_between_special_tokens": (
        {"spaces_between_special_tokens": False, "logit_bias": {"M0": 100}},
        lambda answer, _: _text(answer) == "<marker0>" * 8,
    ),
    "logprobs": ({"logprobs": True}, lambda answer, _: len(answer["choices"][0]["logprobs"]["content"]) == 8),
    "top_logprobs": (
        {"logprobs": True, "top_logprobs": 3},
        lambda answer, _: {len(at["top_logprobs"]) for at in answer["choices"][0]["logprobs"]["content"]} == {3},
    ),
    "logprob_token_ids": (
        {"logprobs": True, "logprob_token_ids": ["M3"]},
        lambda answer, _: (
            "<marker3>" in {each["token"] for each in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
        ),
    ),
    "return_tokens_as_token_ids": (
        {"logprobs": True, "return_tokens_as_token_ids": True},
        lambda answer, _: answer["choices"][0]["logprobs"]["content"][0]["token"].startswith("token_id:"),
    ),
    "return_token_ids": ({"return_token_ids": True}, lambda answer, _: len(_ids(answer)) == 8),
    "response_format": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, "max_tokens": 60},
        lambda answer, _: set(json.loads(_text(answer))) == {"ok"},
    ),
    "structured_outputs": (
        {"structured_outputs": {"choice": ["yes", "no"]}},
        lambda answer, _: _text(answer) in ("yes", "no"),
    ),
    "repetition_detection": (
        {
            "repetition_detection": {"min_pattern_size": 1, "max_pattern_size": 2, "min_count": 3},
            "logit_bias": {"M0": 100},
            "max_tokens": 40,
        },
        lambda answer, _: _tokens(answer, _) < 40,
    ),
    "tools": ({"tools": [WEATHER], "tool_choice": "none"}, longer),
    "tool_choice": (
        {"tools": [WEATHER], "tool_choice": NAMED, "max_tokens": 200},
        lambda answer, _: answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather",
    ),
    "parallel_tool_calls": (
        {"tools": [WEATHER, TIME], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 200},
        lambda answer, _: len(answer["choices"][0]["message"]["tool_calls"]) == 1,
    ),
    "reasoning_effort": ({"reasoning_effort": "high"}, longer),
    "documents": ({"documents": [{"title": "Dogs", "text": "They bark."}]}, longer),
    "chat_template_kwargs": ({"chat_template_kwargs": {"persona": "a sailor"}}, longer),
    "add_generation_prompt": ({"add_generation_prompt": False}, _shorter),
    "continue_final_message": ({"add_generation_prompt": False, "continue_final_message": True}, _shorter),
    "add_special_tokens": ({"add_special_tokens": True}, lambda answer, plain: _tokens(answer, plain) == 8),
    "truncate_prompt_tokens": ({"truncate_prompt_tokens": 2}, _shorter),
    "truncation_side": ({"truncate_prompt_tokens": 2, "truncation_side": "right"}, _shorter),
}
STREAMED = {"stream", "stream_options", "stream_interval"}


def test_no_honoured_field_is_left_untried() -> None:
    """What the engine is to honour, a case here tries, or the tests of streams below."""
    assert set(CASES) | STREAMED == HONOURED


@pytest.mark.parametrize("field", CASES)
def test_each_honoured_field_is_honoured(engine_stack: EngineStack, ask: Callable[..., Answer], field: str) -> None:
    """The answer shows it."""
    tokenizer = AutoTokenizer.from_pretrained(engine_stack.base)
    ids = {"END": tokenizer.eos_token_id, "USER": tokenizer.convert_tokens_to_ids("<user>")} | {
        f"M{number}": _id_of(engine_stack, number) for number in range(4)
    }
    fields, holds = CASES[field]
    if "logit_bias" in fields:
        fields = fields | {"logit_bias": {str(ids[name]): bias for name, bias in fields["logit_bias"].items()}}
    for name in ("allowed_token_ids", "stop_token_ids", "logprob_token_ids"):
        if name in fields:
            fields = fields | {name: [ids[each] for each in fields[name]]}
    penalty = "max_tokens" in fields and field.endswith("_penalty")
    assert holds(ask(**fields), ask(max_tokens=60) if penalty else ask())


@pytest.mark.parametrize("field", sorted(NO_EFFECT))
def test_what_has_no_effect_has_none(ask: Callable[..., Answer], field: str) -> None:
    """With the same seed the same words."""
    value = {"type": "content", "content": "x"} if field == "prediction" else "x"
    assert _text(ask(**{field: value})) == _text(ask())


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": []}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}], "tool_choice": NAMED}, None),
        ({"tools": [WEATHER | {"retries": 3}]}, "tools.0.retries"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "time"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "response_format.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"chat_template_kwargs": {"mood": "x"}}, "chat_template_kwargs.mood"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"logit_bias": {"dog": 1}}, "logit_bias"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0",
        ),
        ({"seed": 2**64}, "seed"),
        ({"n": 0}, "n"),
        ({"tools": "weather"}, ...),
        ({"tools": [1], "tool_choice": NAMED}, ...),
        ({"stop": [1]}, ...),
    ],
)
def test_what_cannot_be_honoured_is_a_400(engine_stack: EngineStack, fields: dict[str, Any], param: Any) -> None:
    """In OpenAI's shape, with the field where there is one; never a 500, and the engine lives on."""
    response = engine_stack.live.chat(**fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error" and error["message"]
    if param is not ...:
        assert error["param"] == param
    assert engine_stack.live.serving.ready()
    assert engine_stack.live.serving.replica.in_flight == 0


# --- structured output, log-probs, streams ----------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_a_json_object_is_one(ask: Callable[..., Answer], stream: Callable[..., list[Answer]], streamed: bool) -> None:
    """Structured output holds in streams too."""
    fields: dict[str, Any] = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}},
        "max_tokens": 80,
    }
    if streamed:
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in stream(**fields))
    else:
        text = _text(ask(**fields))
    assert isinstance(json.loads(text)["ok"], bool)


def test_usage_of_streams(stream: Callable[..., list[Answer]]) -> None:
    """Asked for, the last chunk has it and no choice; continuous, every chunk has what there is so far."""
    *words, last = stream(stream_options={"include_usage": True})
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 8
    assert not any(chunk.get("usage") for chunk in words)
    chunks = stream(stream_options={"include_usage": True, "continuous_usage_stats": True})
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert (counts[0], counts[-1], counts) == (0, 8, sorted(counts))


def test_log_probs_of_streams(stream: Callable[..., list[Answer]]) -> None:
    """Each token once, with as many alternatives as were asked for."""
    chunks = stream(logprobs=True, top_logprobs=2)
    shown = [entry for chunk in chunks for entry in (chunk["choices"][0].get("logprobs") or {"content": []})["content"]]
    assert (len(shown), {len(entry["top_logprobs"]) for entry in shown}) == (8, {2})


def test_a_longer_interval_means_fewer_chunks(stream: Callable[..., list[Answer]]) -> None:
    """Tokens a chunk, as said."""
    assert len(stream(stream_interval=8, max_tokens=32)) < len(stream(max_tokens=32))


def test_choices_of_streams_are_told_apart(stream: Callable[..., list[Answer]]) -> None:
    """Each index starts with a role and ends once."""
    chunks = [chunk["choices"][0] for chunk in stream(n=3)]
    assert [choice["index"] for choice in chunks if choice["delta"].get("role")] == [0, 1, 2]
    assert sorted(choice["index"] for choice in chunks if choice["finish_reason"]) == [0, 1, 2]


def test_a_developer_speaks_as_the_system(ask: Callable[..., Answer]) -> None:
    """The same prompt, so with the same seed the same words."""
    answers = [
        ask(messages=[{"role": role, "content": "Be brief."}, {"role": "user", "content": "A dog is"}])
        for role in ("developer", "system")
    ]
    assert _text(answers[0]) == _text(answers[1])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/nothing"])
def test_every_answer_has_a_request_id(engine_stack: EngineStack, path: str) -> None:
    """Of every status; the caller's own is echoed."""
    for method in ("GET", "POST", "PUT"):
        response = httpx.request(method, engine_stack.live.url + path, headers={"x-request-id": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
