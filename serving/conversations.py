"""Conversations of the page, kept for the rater whose they are: listed, read, written whole, deleted.

A key holds the rater's name, so a request finds its own rater's conversations and no others. Two tabs may write the
same one: a write names the revision that it goes on from, and the later one is told what stands. Kept are the 200 that
were written last, each for `PLUMBLINE_CONVERSATION_DAYS`. Nothing here is trained on: that is the completions.

Votes come first: when the record log has no room for completions any more (serving/completions.py), conversations
have none either.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis.asyncio
from redis.exceptions import RedisError

from core import keys
from core.errors import AlreadyDecided, NotFound, TooLarge, Unavailable
from core.records import Conversation, Turn
from core.redis import script
from serving.completions import CompletionLog

MAX_BYTES = 256 * 1024
MOST = 200
_LUA = Path(__file__).parent / "lua"


class ConversationConflict(AlreadyDecided):
    """Somebody wrote since; the answer holds what stands."""

    def __init__(self, standing: Conversation) -> None:
        super().__init__(f"It was changed meanwhile and is at revision {standing.revision}.")
        self.standing = standing


@dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    """A conversation in a list."""

    id: str
    title: str
    updated: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some conversations, the last written first."""

    headings: list[Heading]
    last: str | None
    """The `after` of the next page."""
    more: bool


class Conversations:
    """In the votes Redis. All methods raise Unavailable while it is away."""

    def __init__(self, client: redis.asyncio.Redis, records: CompletionLog, *, days: float) -> None:
        self._client = client
        self._records = records
        self._life_s = int(days * 24 * 3600)
        self._put = script(client, _LUA / "conversation_put.lua")
        self._forget = script(client, _LUA / "conversation_forget.lua")

    async def get(self, rater: str, conversation_id: str) -> Conversation:
        """Raises NotFound: the rater has none of this id."""
        with _unavailable_when_away():
            fields = ["record", "revision", "created", "updated"]
            held = await cast(Any, self._client.hmget(keys.conversation(rater, conversation_id), fields))
        if held[0] is None:
            raise _not_found()
        return _conversation(held)

    async def page(self, rater: str, *, after: str | None, limit: int) -> Page:
        """Raises NotFound: there is no `after`."""
        index, start = keys.conversations(rater), 0
        with _unavailable_when_away():
            if after is not None:
                rank = await self._client.zrevrank(index, after)
                if rank is None:
                    raise NotFound("There is no such conversation to go on after.", param="after")
                start = cast(int, rank) + 1
            ids = cast(list[str], await self._client.zrange(index, start, start + limit, desc=True))
            async with self._client.pipeline(transaction=False) as pipeline:
                for each in ids[:limit]:
                    pipeline.hmget(keys.conversation(rater, each), ["title", "updated"])
                held = await pipeline.execute()
        found = zip(ids, held, strict=False)
        kept = [Heading(id=each, title=title, updated=float(at)) for each, (title, at) in found if title is not None]
        return Page(headings=kept, last=ids[:limit][-1] if ids else None, more=len(ids) > limit)

    async def put(
        self, rater: str, conversation_id: str, *, title: str, turns: list[Turn], revision: int
    ) -> Conversation:
        """Writes it over `revision`, 0 for a new one. Writing what stands changes nothing.

        Raises:
            ConversationConflict: it is at another revision.
            NotFound: it is not there any more.
            TooLarge: its JSON has more than `MAX_BYTES`.
        """
        said = Conversation(id=conversation_id, rater=rater, title=title, turns=turns)
        record = said.to_json()
        if len(record.encode()) > MAX_BYTES:
            raise TooLarge(f"A conversation may have {MAX_BYTES // 1024} KiB; begin another one.")
        if not self._records.recording:
            raise Unavailable(f"Conversations cannot be kept right now: {self._records.away}.")
        names = [keys.conversation(rater, conversation_id), keys.conversations(rater)]
        digest = hashlib.sha256(record.encode()).hexdigest()
        args = [conversation_id, record, title, digest, revision, self._life_s, MOST, keys.conversation_prefix(rater)]
        with _unavailable_when_away():
            outcome, *rest = await self._put(keys=names, args=args)
        if outcome == 0:
            raise ConversationConflict(_conversation(rest))
        if outcome == -1:
            raise _not_found()
        return _conversation([record, *rest])

    async def delete(self, rater: str, conversation_id: str) -> None:
        """Raises NotFound: the rater has none of this id."""
        await self.get(rater, conversation_id)
        with _unavailable_when_away():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.unlink(keys.conversation(rater, conversation_id))
                pipeline.zrem(keys.conversations(rater), conversation_id)
                await pipeline.execute()

    async def delete_all(self, rater: str) -> None:
        with _unavailable_when_away():
            await self._forget(keys=[keys.conversations(rater)], args=[keys.conversation_prefix(rater)])


def _conversation(held: list[str]) -> Conversation:
    """From the record and what moves."""
    record, revision, created, updated = held
    moving = {"revision": int(revision), "created": float(created), "updated": float(updated)}
    return Conversation.model_validate_json(record).model_copy(update=moving)


def _not_found() -> NotFound:
    return NotFound("There is no such conversation.", code="conversation_not_found")


@contextlib.contextmanager
def _unavailable_when_away() -> Iterator[None]:
    try:
        yield
    except (RedisError, TimeoutError, OSError) as error:
        raise Unavailable("Conversations are away; chat goes on.", code="storage_unavailable") from error
