"""Every field of a chat request, OpenAI's and vLLM's, and what becomes of it. Pure.

The law: what would change the answer is honoured or refused with 400, never dropped in silence; what cannot change it
may be accepted and ignored. docs/api.md holds the same table, and a test holds the two together. What only the base can
tell (has its chat template a place for tools?) the engine checks in `parse`; null is a field that was not said.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidRequest

OURS = frozenset({"model", "messages", "user", "safety_identifier", "store", "train", "metadata"})
"""Read here, by `serving.schemas.ChatBody`."""

HONOURED = frozenset(
    {
        # OpenAI's
        *("frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "n"),
        *("parallel_tool_calls", "presence_penalty", "reasoning_effort", "response_format", "seed", "stop", "stream"),
        *("stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p"),
        # vLLM's
        *("add_generation_prompt", "add_special_tokens", "allowed_token_ids", "bad_words", "chat_template_kwargs"),
        *("continue_final_message", "documents", "ignore_eos", "include_stop_str_in_output", "logprob_token_ids"),
        *("min_p", "min_tokens", "repetition_detection", "repetition_penalty", "return_token_ids"),
        *("return_tokens_as_token_ids", "skip_special_tokens", "spaces_between_special_tokens", "stop_token_ids"),
        *("stream_interval", "structured_outputs", "top_k", "truncate_prompt_tokens", "truncation_side"),
    }
)
"""Handed to the engine."""

RESHAPING: dict[str, Any] = {
    "add_generation_prompt": True,
    "add_special_tokens": False,
    "chat_template_kwargs": None,
    "continue_final_message": False,
    "documents": None,
    "reasoning_effort": None,
    "tools": None,
    "truncate_prompt_tokens": None,
    "truncation_side": None,
}
"""With another value than this the prompt is more, or less, than its messages: such a chat is answered, and nothing is
trained on it."""

NO_EFFECT = frozenset(
    {"prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "request_id", "session_id"}
)
"""Hints about speed and names of the caller's own: accepted, and the answer is what it would be without them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A field that is not offered: `Refusal(why="…", harmless=(1.0,))`."""

    why: str
    """A sentence that says what to do instead, where there is something."""
    harmless: tuple[Any, ...] = ()
    """Values that ask for nothing, which clients send as their defaults."""


_NO_SOUND = "The model reads and writes text only."
_TOOLS_INSTEAD = "Use tools and tool_choice."
_NO_PARSER = "This deployment does not take reasoning apart from the answer."
_INTERNAL = "It belongs to vLLM's own deployments."
_RENDER_ONLY = "vLLM knows it on its render endpoints only."
REFUSED: dict[str, Refusal] = {
    # OpenAI's
    "audio": Refusal(why=_NO_SOUND),
    "function_call": Refusal(why=_TOOLS_INSTEAD),
    "functions": Refusal(why=_TOOLS_INSTEAD),
    "modalities": Refusal(why=_NO_SOUND, harmless=(["text"],)),
    "moderation": Refusal(why="Nothing here moderates: do it in the application."),
    "service_tier": Refusal(why="There is one tier.", harmless=("auto", "default")),
    "verbosity": Refusal(why="Say in the prompt how long the answer should be.", harmless=("medium",)),
    "web_search_options": Refusal(why="The model cannot search."),
    # vLLM's
    "cache_salt": Refusal(why="The server sets it."),
    "chat_template": Refusal(why="The base's own is used: policies are trained with it."),
    "echo": Refusal(why="Put the words before the answer in the application.", harmless=(False,)),
    "ec_transfer_params": Refusal(why=_INTERNAL),
    "include_reasoning": Refusal(why=_NO_PARSER, harmless=(True,)),
    "kv_transfer_params": Refusal(why=_INTERNAL),
    "length_penalty": Refusal(why="It is beam search's.", harmless=(1.0,)),
    "media_io_kwargs": Refusal(why=_NO_SOUND),
    "mm_payload": Refusal(why=_RENDER_ONLY, harmless=("tensors",)),
    "mm_processor_kwargs": Refusal(why=_NO_SOUND),
    "priority": Refusal(why="Requests are answered in the order in which they come.", harmless=(0,)),
    "prompt_logprobs": Refusal(why="Only log-probs of the answer are given out: logprobs, top_logprobs."),
    "return_mm_kwargs": Refusal(why=_RENDER_ONLY),
    "return_prompt_text": Refusal(why="The rendered prompt is not given out.", harmless=(False,)),
    "return_token_offsets": Refusal(why=_RENDER_ONLY, harmless=(False,)),
    "routed_experts_prompt_start": Refusal(why=_INTERNAL, harmless=(0,)),
    "thinking_token_budget": Refusal(why=_NO_PARSER),
    "use_beam_search": Refusal(why="Its text is no sample of a policy.", harmless=(False,)),
    "vllm_xargs": Refusal(why=_INTERNAL),
    "watermarking": Refusal(why="No text is marked.", harmless=(False,)),
}

ROLES = frozenset({"system", "user", "assistant", "tool"})
_STREAM_OPTIONS = frozenset({"include_usage", "continuous_usage_stats", "include_obfuscation"})


def check(fields: Mapping[str, Any]) -> None:
    """Raises InvalidRequest naming the first field that is not offered, or that nobody knows."""
    for name, value in _said(fields):
        if name in REFUSED and not _is_harmless(value, REFUSED[name]):
            raise InvalidRequest(
                f"{name!r} is not offered. {REFUSED[name].why}", param=name, code="unsupported_parameter"
            )
        if name not in REFUSED and name not in HONOURED | NO_EFFECT | OURS:
            raise InvalidRequest(f"Unknown field {name!r}.", param=name, code="unknown_parameter")
    options = fields.get("stream_options")
    for name in options if isinstance(options, dict) else ():
        if name not in _STREAM_OPTIONS:
            param = f"stream_options.{name}"
            raise InvalidRequest(f"Unknown field {param!r}.", param=param, code="unknown_parameter")
    for turn, message in enumerate(fields["messages"]):
        _check_turn(message, f"messages.{turn}")


def _check_turn(message: Mapping[str, Any], place: str) -> None:
    """What vLLM would take and the chat template might then drop; what else is malformed, it says itself."""
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise InvalidRequest(f"{role!r} is no role: {', '.join(sorted(ROLES))}.", param=f"{place}.role")
    if content is None and role != "assistant":
        raise InvalidRequest(f"A turn of the {role} needs content.", param=f"{place}.content")
    for number, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "refusal"):
            said = f"{_NO_SOUND} A content part of type {kind!r} cannot be answered."
            raise InvalidRequest(said, param=f"{place}.content.{number}", code="unsupported_content")


def for_engine(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the engine is to honour."""
    return {name: value for name, value in _said(fields) if name in HONOURED or name in ("model", "messages")}


def reshapes_prompt(fields: Mapping[str, Any]) -> bool:
    """Whether the engine sees something else than the messages."""
    return any(name in RESHAPING and value != RESHAPING[name] for name, value in _said(fields))


def _said(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in fields.items() if value is not None)


def _is_harmless(value: Any, refusal: Refusal) -> bool:
    """`True == 1` in Python, which no caller means."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in refusal.harmless)
