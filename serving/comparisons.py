"""`POST /v1/comparisons`: two to nine answers to one prompt, written at the same time, shown blind.

All sides are ordinary chats of this process. Which policy stands on which side is drawn here, and nothing in the
answer, its headers or its cadence (`serving/lockstep.py`) tells before the vote. Records lie in Redis before anything
is shown, so a vote that comes too early meets sides that are still `streaming`.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from core import keys
from core.access import Caller, Needs
from core.errors import ApiError, NotFound, Unavailable
from core.http import CLIENT_CLOSED, ERRORS, until_disconnect
from core.records import ALIAS, SIDES, Asked, Comparison, VersionDoubt, new_id, now, policy_name
from serving.assignment import Assignment
from serving.chats import Chat, Chats
from serving.choice import draw_pair, draw_release
from serving.completions import CompletionLog
from serving.event_stream import EventStream, server_sent_events
from serving.lockstep import TICK_S, Lane, Lockstep
from serving.schemas import (
    ChatBody,
    ComparisonBody,
    ComparisonResponse,
    ComparisonStarted,
    Side,
    SideDelta,
    SideFinished,
)
from serving.swap import Replica

_HEADERS = {"x-feedback-status": "recorded"}
Doubt = Callable[[], Awaitable[VersionDoubt | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drawn:
    """What is to stand on the sides, before it is dealt out, and how that came."""

    models: list[str]
    asked: Asked
    propensity: float = 1.0
    release: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """A comparison whose records are written and whose sides have not begun."""

    comparison: Comparison
    sides: list[Chat]
    """In the order in which they are shown."""


def router(
    chats: Chats, replica: Replica, records: CompletionLog, doubt: Doubt, *, release_sampling: float
) -> APIRouter:
    """The one route over this process's chats.

    Args:
        doubt: what the votes leave open between policy versions, for those who ask with `"choice": "active"`.
        release_sampling: share of those who leave the choice to us that are asked about the open release; of
            strangers none.
    """
    routes = APIRouter(responses=ERRORS)

    streamed: dict[str, Any] = {"model": ComparisonResponse, "content": {"text/event-stream": {}}}

    @routes.post("/v1/comparisons", status_code=201, responses={201: streamed})
    async def create_comparison(
        body: ComparisonBody, request: Request, caller: Annotated[Caller, Depends(Needs("chat"))]
    ) -> Response:
        """The whole answers, or with `stream` server-sent events: a start, then deltas and an end for each side."""
        versions = await doubt() if body.choice == "active" else None
        dealt = partial(_deal, chats, replica, body, caller, versions, release_sampling)
        async with chats.quotas.opening(caller) as allowance:
            request.state.response_headers = allowance.headers
            opened = await _open(chats, records, dealt)
            allowance.parts = len(opened.sides)
            for side in opened.sides:
                side.allowance = allowance
        try:
            if body.stream:
                return await _streamed(chats, opened, request)
            answer = await until_disconnect(request, _answer(chats, opened))
        except ApiError:  # nobody was told of it
            await records.discard(keys.comparison(opened.comparison.id))
            raise
        if answer is None:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse(answer.model_dump(), status_code=201, headers=_HEADERS)

    return routes


# --- before the first token -------------------------------------------------------------------------------------------


async def _open(chats: Chats, records: CompletionLog, deal: Callable[[], _Opened]) -> _Opened:
    """Deals out the policies and writes the records of the comparison and of its sides, all or none.

    Raises:
        Unavailable: the record log is away: what is not recorded could never be voted on.
    """
    if not records.recording:
        raise _unrecorded()
    opened = deal()
    recorded = False
    try:
        recorded = await records.open([side.record for side in opened.sides], opened.comparison)
    finally:
        for side in opened.sides:
            side.recorded = recorded
            if not recorded:
                chats.end(side)
    if not recorded:
        raise _unrecorded()
    return opened


def _deal(
    chats: Chats,
    replica: Replica,
    body: ComparisonBody,
    caller: Caller,
    doubt: VersionDoubt | None,
    release_sampling: float,
) -> _Opened:
    """Who writes which side. Without a pause from the choice on, so `assistant` twice is one version twice."""
    comparison_id, drawn = new_id("cmp_"), _drawn(replica, body, caller, doubt, release_sampling)
    order = list(range(len(drawn.models)))
    secrets.SystemRandom().shuffle(order)
    taken: list[Assignment] = []
    sides: list[Chat] = []
    try:
        for model in drawn.models:
            taken.append(_acquire(replica, model))
        drafts = [(_draft(body, index, taken[index]), taken[index]) for index in order]
        for draft, assignment in drafts:
            sides.append(chats.prepare(draft, caller=caller, assignment=assignment, comparison_id=comparison_id))
    except BaseException:
        for side in sides:
            chats.turn_away(side)
        for assignment in taken:
            replica.release(assignment)
        raise
    comparison = Comparison(
        id=comparison_id,
        created=now(),
        completion_ids=[side.record.id for side in sides],
        policy_versions=[side.assignment.version for side in sides],
        order=order,
        asked=drawn.asked,
        propensity=drawn.propensity,
        release=drawn.release,
        rater=caller.rater(body.rater),
        tenant=caller.tenant,
    )
    return _Opened(comparison=comparison, sides=sides)


def _drawn(
    replica: Replica, body: ComparisonBody, caller: Caller, doubt: VersionDoubt | None, release_sampling: float
) -> _Drawn:
    """The policies of the sides. Which of them are unknown, or that nothing is resident, is for `acquire` to say.

    Strangers are not asked about the release: its test counts people, and one stranger can come as a hundred.
    """
    residents = replica.residents
    if body.policies or residents is None:
        return _Drawn(models=body.models, asked="requested")
    if body.choice == "active":
        pair = draw_pair(residents.policies, doubt)
        models = [policy_name(version) for version in pair.versions]
        return _Drawn(models=models, asked="active", propensity=pair.propensity)
    canary = residents.canary if len(body.models) == 2 and not caller.stranger else None
    is_release, propensity = draw_release(canary, release_sampling)
    if canary is None or not is_release:
        return _Drawn(models=body.models, asked="random", propensity=propensity)
    models = [policy_name(canary.version), policy_name(residents.live)]
    return _Drawn(models=models, asked="release", propensity=propensity, release=canary.release)


def _acquire(replica: Replica, model: str) -> Assignment:
    """A side is no traffic: here `assistant` is the live version, whoever asks and whatever release is open.

    Raises NotFound about the field in which a comparison names its models."""
    live = replica.residents and policy_name(replica.residents.live)
    try:
        return replica.acquire(live if live and model == ALIAS else model)
    except NotFound as unknown:
        raise NotFound(str(unknown), param="policies", code=unknown.error_code) from None


def _draft(body: ComparisonBody, index: int, assignment: Assignment) -> ChatBody:
    """The chat that asks for the answer of the policy at `index`."""
    fields = body.model_dump(exclude_unset=True, exclude={"policies", "n", "choice"})
    seed = {} if body.seed is None else {"seed": body.seed + index}
    return ChatBody(model=assignment.name, **(fields | seed))


# --- whole answers ----------------------------------------------------------------------------------------------------


async def _answer(chats: Chats, opened: _Opened) -> ComparisonResponse:
    """All answers, or the first failure of any after the others were cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(chats.answer(side)) for side in opened.sides]
    except* ApiError as failures:
        raise failures.exceptions[0] from None
    finally:
        _end(chats, opened)
    _check_recorded(opened)
    comparison = opened.comparison
    sides = [_side(name, task.result()) for name, task in zip(SIDES, tasks, strict=False)]
    return ComparisonResponse(id=comparison.id, created=int(comparison.created), sides=sides)


def _side(name: str, answer: dict[str, Any]) -> Side:
    choice = answer["choices"][0]
    return Side(side=name, content=choice["message"]["content"] or "", finish_reason=choice["finish_reason"])


# --- streams ----------------------------------------------------------------------------------------------------------


async def _streamed(chats: Chats, opened: _Opened, request: Request) -> Response:
    """Answers with the first event once all sides write: what the engine refuses late is still a proper 400."""
    events = _events(chats, opened)
    first = await until_disconnect(request, anext(events))
    if first is None:
        _end(chats, opened)
        return Response(status_code=CLIENT_CLOSED)
    return EventStream(server_sent_events(first, events), status_code=201, headers=_HEADERS, stall_s=chats.stall_s)


async def _events(chats: Chats, opened: _Opened) -> AsyncGenerator[str, None]:
    """The events as JSON. Sides are read as fast as they come and shown in lock-step.

    Raises:
        ApiError: a side failed, or its end could not be recorded.
    """
    sides = dict(zip(SIDES, opened.sides, strict=False))
    started = time.monotonic()
    lanes = {name: Lane(changed=started) for name in sides}
    writers = {name: asyncio.create_task(_write(chats, side, lanes[name])) for name, side in sides.items()}
    lockstep, told, showing = Lockstep(list(lanes.values()), now=started), False, list(sides)
    try:
        while showing:
            await _tick(writers.values())
            gained = zip(sides, lockstep.advance(time.monotonic()), strict=True)
            events: list[BaseModel] = [SideDelta(side=name, delta=text) for name, text in gained if text]
            for name in [name for name in showing if lanes[name].over]:
                showing.remove(name)
                await chats.close(sides[name])  # before its end is seen, so that no vote finds it unfinished
                events.append(SideFinished(side=name, finish_reason=_finish_reason(sides[name])))
            if events and not told:
                told = True
                yield _started(opened.comparison).model_dump_json()
            for event in events:
                yield event.model_dump_json()
        _check_recorded(opened)
    finally:
        for name, writer in writers.items():
            writer.cancel()
            writer.add_done_callback(partial(_ended, chats, sides[name]))


async def _tick(writers: Iterable[asyncio.Task[None]]) -> None:
    """Waits for the next tick; raises what made a side fail."""
    await asyncio.sleep(TICK_S)
    for writer in writers:
        if writer.done():
            writer.result()


async def _write(chats: Chats, side: Chat, lane: Lane) -> None:
    async with aclosing(chats.chunks(side)) as chunks:
        async for chunk in chunks:
            choices = json.loads(chunk)["choices"]
            text = "".join(choice["delta"].get("content") or "" for choice in choices)
            lane.write(text, now=time.monotonic())
    lane.end()


def _ended(chats: Chats, side: Chat, writer: asyncio.Task[None]) -> None:
    if not writer.cancelled():
        writer.exception()  # seen: of several failures one is told
    chats.end(side)


def _finish_reason(side: Chat) -> str | None:
    sampled = side.capture.choices.get(0)
    return sampled.finish_reason if sampled else None


def _started(comparison: Comparison) -> ComparisonStarted:
    names = list(SIDES[: len(comparison.completion_ids)])
    return ComparisonStarted(id=comparison.id, created=int(comparison.created), sides=names)


# --- both -------------------------------------------------------------------------------------------------------------


def _end(chats: Chats, opened: _Opened) -> None:
    for side in opened.sides:
        chats.end(side)


def _check_recorded(opened: _Opened) -> None:
    if not all(side.recorded for side in opened.sides):
        raise _unrecorded()


def _unrecorded() -> Unavailable:
    return Unavailable("Comparisons need the vote store, which is away; chat goes on.", code="storage_unavailable")
