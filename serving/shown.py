"""The answer as the client saw it, where that is not the text that was sampled: calls of tools are taken out of it.

Kept for `GET /v1/chat/completions/{id}` only; what is trained on is the record.
"""

from typing import Any

from core.records import StoredRequest
from serving.schemas import ChatBody

_FIELDS = ("tools", "tool_choice", "response_format")


def stored_request(body: ChatBody) -> StoredRequest | None:
    """What is to be kept beside the record; None where the record says all, or nothing is to be kept."""
    extra = body.model_extra or {}
    fields = {name: extra[name] for name in _FIELDS if extra.get(name) is not None}
    if body.store is False or (body.text is not None and not fields):
        return None
    return StoredRequest(messages=[] if body.text is not None else body.messages, fields=fields)


class Shown:
    """The choices of one answer, whole or chunk by chunk."""

    def __init__(self) -> None:
        self.answers: dict[int, dict[str, Any]] = {}
        self.reasons: dict[int, str | None] = {}

    def take(self, choices: list[dict[str, Any]]) -> None:
        """Of a whole answer, or of one chunk."""
        for choice in choices:
            index = choice["index"]
            self.reasons[index] = choice.get("finish_reason") or self.reasons.get(index)
            if "message" in choice:
                self.answers[index] = {name: choice["message"].get(name) for name in ("role", "content", "tool_calls")}
            else:
                self._grow(self.answers.setdefault(index, {"role": "assistant", "content": None}), choice["delta"])

    def _grow(self, message: dict[str, Any], delta: dict[str, Any]) -> None:
        if delta.get("content"):
            message["content"] = (message["content"] or "") + delta["content"]
        for part in delta.get("tool_calls") or []:
            calls = message.setdefault("tool_calls", [])
            while len(calls) <= part["index"]:
                calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
            call, function = calls[part["index"]], part.get("function") or {}
            call["id"] = part.get("id") or call["id"]
            call["function"]["name"] += function.get("name") or ""
            call["function"]["arguments"] += function.get("arguments") or ""
