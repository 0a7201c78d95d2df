"""The span of one answered chat, in OpenTelemetry's conventions for generative AI (status: development).

Made when the chat has ended, so that nothing is done while it streams. Without the messages, the system prompt and the
tools, which those conventions make optional because they are what people write.
"""

from typing import TYPE_CHECKING

from core import tracing
from core.records import ALIAS, now

if TYPE_CHECKING:
    from serving.chats import Chat

_REQUEST = ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty", "seed")


def note(chat: "Chat") -> None:
    """Never waits."""
    if not tracing.is_on():
        return
    error = chat.error or chat.capture.error
    tracing.finished(
        f"chat {ALIAS}",
        _attributes(chat),
        begin=chat.record.created,
        end=max(chat.record.created, now()),
        parent=chat.trace,
        error=(error.error_code or type(error).__name__) if error else "",
    )


def _attributes(chat: "Chat") -> dict[str, str | int | float | bool | list[str]]:
    capture, choices = chat.capture, chat.capture.choices.values()
    asked = {f"gen_ai.request.{name}": capture.sampling.get(name) for name in _REQUEST}
    said: dict[str, str | int | float | bool | list[str]] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "plumbline",
        "gen_ai.request.model": chat.assignment.name if chat.record.assignment == "pinned" else ALIAS,
        "gen_ai.request.stream": chat.request.stream,
        "gen_ai.request.choice.count": chat.request.choices,
        "gen_ai.response.model": chat.assignment.name,
        "gen_ai.response.id": chat.record.id,
        "gen_ai.response.finish_reasons": [choice.finish_reason or "" for choice in choices],
        "gen_ai.usage.input_tokens": len(capture.prompt_token_ids),
        "gen_ai.usage.output_tokens": sum(len(choice.token_ids) for choice in choices),
        "plumbline.assignment": chat.record.assignment,
        "plumbline.recorded": chat.recorded,
    }
    if capture.first_token is not None:
        said["gen_ai.response.time_to_first_chunk"] = max(0.0, capture.first_token - chat.started)
    return said | {name: value for name, value in asked.items() if isinstance(value, int | float)}
