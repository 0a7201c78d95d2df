"""Reads votes back: one by its id with its history, or a page of those that match.

Lists go from the newest to the oldest *first* revision, so a vote that is revised between two pages neither moves nor
comes twice. There is no index but by id and by target: other filters look through the log, at a bounded number of
entries a request, and the page then says where to go on. What Redis gave up is read from the archive, if there is one.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis.asyncio

from core import keys
from core.access import DEPLOYMENT, tenant_of
from core.errors import Gone, InvalidRequest, NotFound
from core.records import Feedback, Kind
from feedback import scripts
from feedback.archive import Archive, Entry
from feedback.events import after, position
from feedback.scripts import Call, View

MAX_HISTORY = 100
"""Earlier revisions that are shown."""
_LOOKED_AT = 1000
_CHUNK = 100
"""Entries of one script call: Redis serves nobody else meanwhile."""
_ON_TARGET = 500
"""Votes on one target that are read without looking through the log."""

Status = Literal["active", "superseded", "withdrawn"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One vote: as it is now, and its earlier revisions, newest first."""

    view: View
    history: list[Feedback]


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which votes: each filter that is given must match. `after` is the id of the vote to go on from. Names as stored
    (core/access.py)."""

    tenant: str = DEPLOYMENT
    target: str | None = None
    policy_version: int | None = None
    kind: Kind | None = None
    status: Status | None = None
    rater: str | None = None
    after: str | None = None
    limit: int = 20

    def matches(self, view: View) -> bool:
        said = view.feedback
        return (
            tenant_of(said.id) == self.tenant
            and self.target in (None, said.target.id)
            and (self.policy_version is None or (view.revealed and self.policy_version in said.policy_versions))
            and self.kind in (None, said.kind)
            and self.status in (None, view.status)
            and self.rater in (None, said.rater)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Matching votes, newest first; fewer than asked for, even none, if the log had to be looked through for them."""

    views: list[View]
    last: str | None
    """The `after` of the next page: the last vote that was looked at."""
    more: bool


async def find(
    client: redis.asyncio.Redis, feedback_id: str, *, history: int = 0, archive: Archive | None = None
) -> Found:
    """One vote and up to `history` of its earlier revisions.

    Raises:
        NotFound: there is none, or it is not shown to the caller: the words are the same.
        Gone: it lies in the archive, and none is given.
        Unavailable: Redis is away.
    """
    answer = await scripts.run(client, Call(name="read", args=[feedback_id, history]))
    if not answer:
        raise unknown()
    newest, events, earlier = answer
    if newest[0] and (not earlier or archive is None):
        return Found(view=scripts.view(newest), history=[Feedback.model_validate_json(event) for event in events])
    if archive is None:
        raise archived()
    return await asyncio.to_thread(_from_archive, archive, newest, events, earlier, history)


def unknown() -> NotFound:
    """The refusal of what is not there, or not the caller's."""
    return NotFound("There is no such feedback.", code="feedback_not_found")


def archived() -> Gone:
    """The refusal of what cannot be done with an archived vote."""
    return Gone("This feedback was archived: its target can no longer be voted on. It can be read and taken back.")


def _from_archive(archive: Archive, newest: Sequence[Any], events: Sequence[str], earlier: str, history: int) -> Found:
    """What `read` found in Redis, and the rest: all of it, or the revisions from `earlier` on."""
    if newest[0]:
        view = scripts.view(newest)
    else:
        entry = _entry(archive, newest[1].partition(",")[0])
        view, earlier = _archived_view(entry, newest[1]), entry.previous or ""
    found = [Feedback.model_validate_json(event) for event in events]
    while earlier and len(found) < history:
        entry = _entry(archive, earlier)
        found.append(Feedback.model_validate_json(entry.event or ""))
        earlier = entry.previous or ""
    return Found(view=view, history=found)


def _entry(archive: Archive, position: str) -> Entry:
    entry = archive.entry(position)
    if entry is None:
        raise unknown()
    return entry


def _archived_view(entry: Entry, where: str) -> View:
    feedback = Feedback.model_validate_json(entry.event or "")
    return View(feedback=feedback, where=where, first=entry.first or entry.position, revealed=True, archived=True)


async def page(client: redis.asyncio.Redis, query: Query, archive: Archive | None = None) -> Page:
    """One page of votes.

    Raises:
        InvalidRequest: there is no vote `after`.
        Unavailable: Redis is away.
    """
    start = None if query.after is None else await _place(client, query.after, archive)
    if query.target is not None and (views := await _on_target(client, query.target)) is not None:
        rest = views if start is None else [view for view in views if after(start, view.first)]
        return _cut([view for view in rest if query.matches(view)], query.limit)
    return await _looked_through(client, query, start, archive)


async def _place(client: redis.asyncio.Redis, feedback_id: str, archive: Archive | None) -> str:
    try:
        return (await find(client, feedback_id, archive=archive)).view.first
    except NotFound:
        raise InvalidRequest("There is no such feedback to go on from.", param="query.after") from None


async def _on_target(client: redis.asyncio.Redis, target: str) -> list[View] | None:
    """All votes on a target, newest first; None if that takes a look through the log."""
    key = keys.comparison(target) if target.startswith("cmp_") else keys.completion(target)
    known, *answer = await scripts.run(client, Call(name="target", keys=[key], args=[_ON_TARGET]))
    if not known:
        return None
    views = [scripts.view(it) for it in answer[0]]
    return sorted(views, key=lambda view: position(view.first), reverse=True)


async def _looked_through(
    client: redis.asyncio.Redis, query: Query, start: str | None, archive: Archive | None
) -> Page:
    """At least one vote is looked at, so that every page gets further."""
    matching: list[View] = []
    last, looked_at, more = None, 0, False
    async for views, rest in _backwards(client, start, archive):
        more = rest
        matching += [view for view in views if query.matches(view)]
        last = views[-1].feedback.id if views else last
        looked_at += _CHUNK
        if len(matching) > query.limit or (looked_at >= _LOOKED_AT and last is not None):
            break
    if len(matching) > query.limit:
        return _cut(matching, query.limit)
    return Page(views=matching, last=last, more=more)


async def _backwards(
    client: redis.asyncio.Redis, start: str | None, archive: Archive | None
) -> AsyncIterator[tuple[list[View], bool]]:
    """The votes that were first given before `start`, newest first, a few at a time; and whether there may be more."""
    newest, trimmed = "+" if start is None else f"({start}", ""
    while newest:
        call = Call(name="scan", keys=[keys.FEEDBACK_TRIMMED], args=[newest, _CHUNK])
        oldest, answer, trimmed = await scripts.run(client, call)
        newest = f"({oldest}" if oldest else ""
        yield [scripts.view(it) for it in answer], bool(newest or (trimmed and archive))
    if archive is None or not trimmed:
        return
    milliseconds, sequence = position(trimmed)
    before = f"{milliseconds}-{sequence + 1}"
    before = before if start is None or after(start, before) else start
    more = True
    while more:
        entries = await asyncio.to_thread(_older, archive, before)
        more = len(entries) == _CHUNK
        yield await _first_given(client, archive, entries), more
        before = entries[-1].position if entries else before


def _older(archive: Archive, before: str) -> list[Entry]:
    return list(itertools.islice(archive.backwards(before), _CHUNK))


async def _first_given(client: redis.asyncio.Redis, archive: Archive, entries: Iterable[Entry]) -> list[View]:
    """The votes that were first given in these archived entries, as they are now."""
    given = [(it, Feedback.model_validate_json(it.event)) for it in entries if it.event is not None and not it.first]
    calls = [Call(name="read", args=[feedback.id, 0]) for _, feedback in given]
    views = []
    for (entry, _), answer in zip(given, await scripts.run_all(client, calls), strict=True):
        if isinstance(answer, Exception):
            with scripts.unavailable_when_away():
                raise answer
        if answer:
            newest = answer[0]
            if not newest[0] and newest[1].partition(",")[0] == entry.position:
                views.append(_archived_view(entry, newest[1]))
            else:
                views.append((await asyncio.to_thread(_from_archive, archive, newest, [], "", 0)).view)
    return views


def _cut(views: Sequence[View], limit: int) -> Page:
    kept = list(views[:limit])
    return Page(views=kept, last=kept[-1].feedback.id if kept else None, more=len(views) > limit)
