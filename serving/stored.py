"""Stored completions: what is kept of a tenant's chats for as long as they can be voted on, read, labelled, deleted.

Everything whose text is kept is stored, whether or not the caller said `store: true`: whoever's words we hold may see
and delete them. What is another tenant's, has no text, is still being written, or is a side of a comparison that is
still blind, does not exist. Deleting here takes a completion out of Redis at once, and leaves word for the scheduler,
which takes it out of the archive (feedback/deletion.py); until then no snapshot reads it.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import redis.asyncio
from redis.exceptions import RedisError

from core import keys
from core.access import Caller
from core.errors import NotFound, Unavailable
from core.records import Choice, CompletionRecord, CompletionState, StoredRequest, policy_name
from core.redis import script
from serving.stored_schemas import (
    StoredChoice,
    StoredCompletion,
    StoredInput,
    StoredInputs,
    StoredList,
    StoredMessage,
    StoredUsage,
)

_LUA = Path(__file__).parent / "lua"
_CHUNK = 200
MOST_LOOKED_AT = 10_000
"""Completions that one page of a filtered list looks at; a page that finds fewer than asked for then ends early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One completion as it lies in Redis."""

    record: CompletionRecord
    request: StoredRequest | None
    metadata: dict[str, str]

    @property
    def messages(self) -> list[dict[str, Any]]:
        if self.request is not None and self.request.messages:
            return self.request.messages
        return [message.model_dump(include={"role", "content"}) for message in self.record.messages]


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which completions a list holds: `Filter(model="assistant@v3", metadata={"page": "3"})`."""

    model: str | None
    metadata: Mapping[str, str]

    def takes(self, kept: Kept) -> bool:
        is_model = self.model is None or policy_name(kept.record.policy_version) == self.model
        return is_model and all(kept.metadata.get(name) == value for name, value in self.metadata.items())


class StoredCompletions:
    """Reads and changes the stored completions in the votes Redis. All methods raise Unavailable while it is away."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._delete = script(client, _LUA / "completion_delete.lua")
        self._label = script(client, _LUA / "completion_label.lua")

    async def get(self, caller: Caller, completion_id: str) -> Kept:
        """Raises NotFound: there is none that the caller may see."""
        with _unavailable_when_away():
            [found] = await self._load(caller, [completion_id])
        if found is None:
            raise _not_found()
        return found

    async def page(
        self, caller: Caller, wanted: Filter, *, after: str | None, limit: int, order: Literal["asc", "desc"]
    ) -> StoredList:
        """Raises NotFound: there is no `after`."""
        found: list[Kept] = []
        with _unavailable_when_away():
            async for kept in self._from(caller, after, order):
                if wanted.takes(kept):
                    found.append(kept)
                if len(found) > limit:
                    break
        shown = [body(kept, caller) for kept in found[:limit]]
        return StoredList(
            data=shown,
            first_id=shown[0].id if shown else None,
            last_id=shown[-1].id if shown else None,
            has_more=len(found) > limit,
        )

    async def label(self, caller: Caller, completion_id: str, metadata: dict[str, str]) -> Kept:
        """Replaces the labels. Raises NotFound."""
        await self.get(caller, completion_id)
        with _unavailable_when_away():
            done = await self._label(keys=[keys.completion(completion_id)], args=[json.dumps(metadata)])
        if not done:
            raise _not_found()
        return await self.get(caller, completion_id)

    async def delete(self, caller: Caller, completion_id: str) -> None:
        """Raises NotFound."""
        kept = await self.get(caller, completion_id)
        names = [keys.completion(completion_id), keys.stored(kept.record.tenant), keys.PROMPTS, keys.DELETED]
        with _unavailable_when_away():
            done = await self._delete(keys=names, args=[completion_id])
        if not done:
            raise _not_found()

    async def _from(self, caller: Caller, after: str | None, order: str) -> AsyncIterator[Kept]:
        """Those that the caller may see, from the one behind `after` on."""
        index, descending = keys.stored(caller.tenant), order == "desc"
        start = 0
        if after is not None:
            rank = await (self._client.zrevrank if descending else self._client.zrank)(index, after)
            if rank is None:
                raise NotFound("There is no such completion to go on after.", param="after")
            start = cast(int, rank) + 1
        for first in range(start, start + MOST_LOOKED_AT, _CHUNK):
            ids = cast(list[str], await self._client.zrange(index, first, first + _CHUNK - 1, desc=descending))
            for kept in await self._load(caller, ids):
                if kept is not None:
                    yield kept
            if len(ids) < _CHUNK:
                return

    async def _load(self, caller: Caller, ids: Sequence[str]) -> list[Kept | None]:
        """What the caller may see of these, else None."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for completion_id in ids:
                pipeline.hmget(keys.completion(completion_id), ["record", "request", "metadata"])
            loaded = [_kept(fields, caller) for fields in await pipeline.execute()]
            sides = [kept.record.comparison_id for kept in loaded if kept and kept.record.comparison_id]
            for comparison_id in sides:
                pipeline.hexists(keys.comparison(comparison_id), "revealed")
            revealed = dict(zip(sides, await pipeline.execute(), strict=True)) if sides else {}
        return [kept if kept and revealed.get(kept.record.comparison_id or "", True) else None for kept in loaded]


def _kept(fields: Sequence[str | None], caller: Caller) -> Kept | None:
    """None: it does not exist for the caller, but for a side of a comparison, which is not looked at here."""
    if fields[0] is None:
        return None
    record = CompletionRecord.model_validate_json(fields[0])
    is_kept = bool(record.messages or record.prompt_token_ids)
    if record.state == CompletionState.STREAMING or not is_kept or not caller.owns(record.tenant, record.rater):
        return None
    request = StoredRequest.model_validate_json(fields[1]) if fields[1] is not None else None
    metadata = json.loads(fields[2]) if fields[2] is not None else record.metadata
    return Kept(record=record, request=request, metadata=metadata)


# --- as it is shown ---------------------------------------------------------------------------------------------------


def body(kept: Kept, caller: Caller) -> StoredCompletion:
    """OpenAI's stored chat completion."""
    record, sampling = kept.record, kept.record.sampling
    prompt = len(record.prompt_token_ids)
    written = sum(len(choice.token_ids) for choice in record.choices)
    return StoredCompletion(
        id=record.id,
        created=int(record.created),
        model=policy_name(record.policy_version),
        choices=[_choice(kept, choice) for choice in record.choices],
        usage=StoredUsage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written),
        system_fingerprint=f"fp_{record.adapter_sha256[:12]}",
        metadata=kept.metadata,
        input_user=caller.shown(record.rater) if record.rater else None,
        **{name: sampling.get(name) for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")},
        seed=sampling.get("seed"),
        **(kept.request.fields if kept.request else {}),
    )


def inputs(kept: Kept, *, after: str | None, limit: int, order: Literal["asc", "desc"]) -> StoredInputs:
    """The turns of the prompt. Raises NotFound: there is no `after`."""
    turns = [_input(kept.record.id, place, message) for place, message in enumerate(kept.messages)]
    turns = turns[::-1] if order == "desc" else turns
    if after is not None:
        places = [place for place, turn in enumerate(turns) if turn.id == after]
        if not places:
            raise NotFound("There is no such message to go on after.", param="after")
        turns = turns[places[0] + 1 :]
    shown = turns[:limit]
    return StoredInputs(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(turns) > limit,
    )


def _choice(kept: Kept, choice: Choice) -> StoredChoice:
    request, index = kept.request, choice.index
    if request is not None and index in request.answers:
        message = StoredMessage.model_validate(request.answers[index])
        return StoredChoice(index=index, message=message, finish_reason=request.reasons.get(index))
    message = StoredMessage(role="assistant", content=choice.text)
    return StoredChoice(index=index, message=message, finish_reason=choice.finish_reason)


def _input(completion_id: str, place: int, message: Mapping[str, Any]) -> StoredInput:
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    text = "".join(part.get("text") or "" for part in parts) if parts is not None else content
    named = {name: message[name] for name in ("name", "tool_calls", "tool_call_id") if name in message}
    role = str(message["role"])
    return StoredInput(id=f"{completion_id}-{place}", role=role, content=text, content_parts=parts, **named)


def _not_found() -> NotFound:
    return NotFound("There is no such chat completion.", param="completion_id", code="completion_not_found")


@contextlib.contextmanager
def _unavailable_when_away() -> Iterator[None]:
    try:
        yield
    except (RedisError, TimeoutError, OSError) as error:
        raise Unavailable("Stored completions are away; chat goes on.", code="storage_unavailable") from error
