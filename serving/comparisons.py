"""`POST /v1/comparisons`: two answers to one prompt, written at the same time, shown blind.

Both sides are ordinary chats of this process. Which one stands on the left is a coin of the server; nothing in the
answer or its headers tells the versions apart before the vote.
"""

import asyncio
import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from core.errors import ApiError, Unavailable
from core.records import ALIAS, Comparison, new_id, now
from serving.assignment import Assignment
from serving.chats import Chat, Chats
from serving.completions import CompletionLog
from serving.endpoints import CLIENT_CLOSED, until_disconnect
from serving.schemas import ChatBody, ComparisonBody, ComparisonResponse, Side
from serving.swap import Replica


def router(chats: Chats, replica: Replica, records: CompletionLog) -> APIRouter:
    """The one route over this process's chats."""
    routes = APIRouter()

    @routes.post("/v1/comparisons", status_code=201)
    async def create_comparison(body: ComparisonBody, request: Request) -> Response:
        if not records.recording:
            raise _unrecorded()
        comparison = await until_disconnect(request, _compare(chats, replica, records, body))
        if comparison is None:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse(comparison.model_dump(), status_code=201, headers={"x-feedback-status": "recorded"})

    return routes


async def _compare(chats: Chats, replica: Replica, records: CompletionLog, body: ComparisonBody) -> ComparisonResponse:
    comparison_id, created = new_id("cmp_"), now()
    chosen = _acquire_both(replica, body.policies or (ALIAS, ALIAS))
    sides = await _open_both(chats, replica, body, chosen, comparison_id)
    answers = await _answer_both(chats, sides)
    swapped = bool(secrets.randbelow(2))
    (a, left), (b, right) = reversed(answers) if swapped else answers
    comparison = Comparison(
        id=comparison_id,
        created=created,
        a=a.record.id,
        b=b.record.id,
        policy_versions=(a.assignment.version, b.assignment.version),
        swapped=swapped,
        rater=body.rater,
    )
    if not (a.recorded and b.recorded and await records.add(comparison)):
        raise _unrecorded()
    return ComparisonResponse(id=comparison_id, created=int(created), sides=(_side("a", left), _side("b", right)))


def _acquire_both(replica: Replica, models: tuple[str, str]) -> tuple[Assignment, Assignment]:
    """Without a pause in between, so that `assistant` twice is one version twice."""
    first = replica.acquire(models[0])
    try:
        return first, replica.acquire(models[1])
    except ApiError:
        replica.release(first)
        raise


async def _open_both(
    chats: Chats, replica: Replica, body: ComparisonBody, chosen: tuple[Assignment, Assignment], comparison_id: str
) -> tuple[Chat, Chat]:
    fields = body.model_dump(exclude_unset=True, exclude={"policies"})
    second_seed = {} if body.seed is None else {"seed": body.seed + 1}
    try:
        one = ChatBody(model=chosen[0].name, **fields)
        first = await chats.open(one, assignment=chosen[0], comparison_id=comparison_id)
    except BaseException:
        replica.release(chosen[1])
        raise
    try:
        two = ChatBody(model=chosen[1].name, **(fields | second_seed))
        return first, await chats.open(two, assignment=chosen[1], comparison_id=comparison_id)
    except BaseException:
        chats.end(first)
        raise


async def _answer_both(chats: Chats, sides: tuple[Chat, Chat]) -> list[tuple[Chat, dict[str, Any]]]:
    """Both answers, or the first failure of either after the other one was cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(chats.answer(side)) for side in sides]
    except* ApiError as failures:
        raise failures.exceptions[0] from None
    finally:
        for side in sides:
            chats.end(side)
    return [(side, task.result()) for side, task in zip(sides, tasks, strict=True)]


def _side(name: Any, answer: dict[str, Any]) -> Side:
    choice = answer["choices"][0]
    return Side(side=name, content=choice["message"]["content"] or "", finish_reason=choice["finish_reason"])


def _unrecorded() -> Unavailable:
    return Unavailable("Comparisons need the vote store, which is away; chat goes on.", code="storage_unavailable")
