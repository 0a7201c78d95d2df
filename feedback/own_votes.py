"""`GET /page/votes`: what became of a visitor's votes, newest first, in words that they may know (feedback/fate.py).

The page's visitors have a list of their newest votes of its own (lua/vote.lua), because the log is by time, not by
rater. Answers to rater tasks are not in it: who judges for others is told of no policies.
"""

import asyncio
from datetime import datetime
from typing import Annotated, Any, cast

import redis.asyncio
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from core import keys
from core.access import Caller, NeedsSession
from core.errors import NotFound
from core.http import ERRORS
from core.records import Kind, Value, policy_name
from feedback import fate, lookup, schemas, scripts
from feedback.archive import Archive
from feedback.fate import State
from feedback.lineage import Lineage
from feedback.schemas import FeedbackId, TargetBody
from feedback.scripts import View

MAX_PAGE = 50


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnVote(_Body):
    """A vote and what became of it."""

    feedback: str
    kind: Kind
    value: Value
    created_at: datetime
    target: TargetBody
    fate: State
    """`set_aside` votes train nothing; a `withdrawn` one was taken back."""
    reason: str | None
    """The same in words: `used in assistant@v12`, `not used: a tie trains no policy`. Null where nobody can tell."""
    versions: list[str]
    """Released policies that learned from it: `["assistant@v12"]`."""


class OwnVotes(_Body):
    """A page, newest first; votes that a newer one replaced are left out, so it may hold fewer than `limit`."""

    data: list[OwnVote]
    has_more: bool
    last_id: str | None


class OwnVotesQuery(_Body):
    after: FeedbackId | None = None
    """`last_id` of the page before."""
    limit: int = Field(20, ge=1, le=MAX_PAGE)


def routes(client: redis.asyncio.Redis, archive: Archive, lineage: Lineage) -> APIRouter:
    router = APIRouter(responses=ERRORS)

    @router.get("/page/votes")
    async def list_own_votes(
        query: Annotated[OwnVotesQuery, Query()], caller: Annotated[Caller, Depends(NeedsSession())]
    ) -> OwnVotes:
        """What became of the session's votes; those of the last ninety days, five hundred at most."""
        ids = await _listed(client, caller.visitor, query)
        found = await asyncio.gather(*(_found(client, each, archive) for each in ids[: query.limit]))
        standing = [view for view in found if view is not None and not view.superseded]
        data = [await _told(view, lineage, caller) for view in standing]
        last = ids[: query.limit][-1] if ids else None
        return OwnVotes(data=data, has_more=len(ids) > query.limit, last_id=last)

    return router


async def _listed(client: redis.asyncio.Redis, rater: str, query: OwnVotesQuery) -> list[str]:
    """One more than asked for, if there is one. Raises NotFound: there is no `after`."""
    index, start = keys.visitor_votes(rater), 0
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            if query.after is not None:
                rank = await client.zrevrank(index, query.after)
                if rank is None:
                    raise NotFound("There is no such vote to go on after.", param="after")
                start = cast(int, rank) + 1
            return cast(list[str], await client.zrange(index, start, start + query.limit, desc=True))


async def _found(client: redis.asyncio.Redis, feedback_id: str, archive: Archive) -> View | None:
    try:
        return (await lookup.find(client, feedback_id, archive=archive)).view
    except NotFound:
        return None


async def _told(view: View, lineage: Lineage, caller: Caller) -> OwnVote:
    said, uses = view.feedback, await lineage.uses(view)
    shown: dict[str, Any] = schemas.feedback_object(view, caller).model_dump(
        include={"kind", "value", "created_at", "target"}
    )
    return OwnVote(
        **shown,
        feedback=said.id,
        fate=fate.state_of(said, uses or []),
        reason=None if uses is None else fate.in_words(said, uses, superseded=False),
        versions=[policy_name(version) for version in fate.released_in(uses or [])],
    )
