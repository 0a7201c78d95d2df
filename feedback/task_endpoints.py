"""The API of rater tasks: operators add and watch them on the admin listener, raters do them on the public one.

Two listeners, because a list of tasks tells gold questions from others, and who adds tasks keeps comparisons blind.
Tasks are the deployment's: hired raters are not shown what the people of a tenant wrote.
"""

import hashlib
from typing import Annotated, Any

import redis.asyncio
from fastapi import APIRouter, Depends, Query, Response
from pydantic import ValidationError

from core.access import ACT, LOOK, Caller, Needs
from core.errors import ApiError, Forbidden, InvalidRequest
from core.http import ERRORS, ErrorDetail, invalid_request
from core.records import RaterTask, Target, new_id, now
from feedback import task_lookup, task_schemas, task_store
from feedback.task_lookup import Progress
from feedback.task_schemas import (
    AnsweredTask,
    AnswerRequest,
    AssignedTask,
    GoldCount,
    ProgressObject,
    RaterProgress,
    RaterQuery,
    SkippedTask,
    SkipRequest,
    TaskList,
    TaskListQuery,
    TaskRequest,
    TaskResult,
    TasksRequest,
    TasksResponse,
)
from feedback.task_store import Added, Draft
from feedback.tasks import LEASE_S, Said

_NO_STORE = {"cache-control": "no-store"}


async def hired(caller: Annotated[Caller, Depends(Needs("feedback", deployment=True))]) -> Caller:
    """Who does tasks; raises Forbidden: a stranger, who is not to see what other people asked."""
    if caller.stranger:
        raise Forbidden("Tasks show what other people asked: they are for raters who were invited.", code="not_invited")
    return caller


Hired = Annotated[Caller, Depends(hired)]


def rater_routes(client: redis.asyncio.Redis, *, window_s: int, lease_s: int = LEASE_S) -> APIRouter:
    """What raters do: take a task, answer or skip it, see how far they are."""
    router = APIRouter(responses=ERRORS)

    @router.get("/v1/tasks/next", response_model=AssignedTask, responses={204: {"description": "No task is left."}})
    async def next_task(query: Annotated[RaterQuery, Query()], caller: Hired) -> Response:
        """The task that the rater holds, else the next one, whose place is kept for them for a while; 204 if none."""
        leased = await task_store.lease(client, caller.speaks_for(query.rater), lease_s=lease_s)
        if leased is None:
            return Response(status_code=204, headers=_NO_STORE)
        body = task_schemas.assigned_task(leased).model_dump_json()
        return Response(body, media_type="application/json", headers=_NO_STORE)

    @router.post("/v1/tasks/{task_id}/answer", status_code=201, responses={200: {"model": AnsweredTask}})
    async def answer_task(task_id: str, body: AnswerRequest, response: Response, caller: Hired) -> AnsweredTask:
        """Stores the answer as a vote; 200 if this very answer was stored before."""
        rater = caller.speaks_for(body.rater.id)
        said = Said(rater=rater, value=body.value, reasons=tuple(body.reasons), comment=body.comment)
        vote = await task_store.answer(client, task_id, said, window_s=window_s)
        response.status_code = 201 if vote.new else 200
        return AnsweredTask(id=task_id, feedback=vote.view.feedback.id)

    @router.post("/v1/tasks/{task_id}/skip")
    async def skip_task(task_id: str, body: SkipRequest, caller: Hired) -> SkippedTask:
        """Gives the task back; this rater does not get it again."""
        await task_store.skip(client, task_id, caller.speaks_for(body.rater.id), reason=body.reason)
        return SkippedTask(id=task_id)

    @router.get("/v1/tasks/progress")
    async def progress(query: Annotated[RaterQuery, Query()], caller: Hired) -> ProgressObject:
        """How many tasks the rater did and skipped, and how many are left for them."""
        rater = caller.speaks_for(query.rater)
        return ProgressObject(**_progress(rater, await task_lookup.progress(client, rater)))

    return router


def operator_routes(client: redis.asyncio.Redis, *, window_s: int) -> APIRouter:
    """What operators do: add tasks, list them, see how a rater does on gold questions."""
    router = APIRouter(responses=ERRORS)

    @router.post("/v1/tasks", dependencies=[ACT])
    async def add_tasks(body: TasksRequest) -> TasksResponse:
        """Adds tasks in order; a bad one harms no other. Idempotent by the items' external ids."""
        return TasksResponse(results=await add(client, body.items, window_s=window_s))

    @router.get("/v1/tasks", dependencies=[LOOK])
    async def list_tasks(query: Annotated[TaskListQuery, Query()]) -> TaskList:
        """All tasks, newest first, with what came of them."""
        page = await task_lookup.page(client, after=query.after, limit=query.limit)
        data = [task_schemas.task_object(standing) for standing in page.tasks]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return TaskList(data=data, first_id=first, last_id=last, has_more=page.more)

    @router.get("/v1/tasks/progress", dependencies=[LOOK])
    async def progress(query: Annotated[RaterQuery, Query()]) -> RaterProgress:
        """As the rater sees it, and how they answered gold questions."""
        fields = _progress(query.rater, await task_lookup.progress(client, query.rater))
        results = await task_lookup.gold(client, query.rater)
        return RaterProgress(**fields, gold=GoldCount(right=results[True], wrong=results[False]))

    return router


async def add(client: redis.asyncio.Redis, items: list[Any], *, window_s: int) -> list[TaskResult]:
    """Adds tasks as `TaskRequest` writes them, for the API and the command line.

    Raises:
        Unavailable: Redis is away and nothing was stored.
    """
    drafts = [_draft(item, window_s) for item in items]
    good = [draft for draft in drafts if isinstance(draft, Draft)]
    stored = await task_store.add(client, good, now=now(), window_s=window_s)
    away = [outcome for outcome in stored if isinstance(outcome, ApiError) and outcome.status >= 500]
    if away and len(away) == len(stored):
        raise away[0]
    outcomes = iter(stored)
    each = [next(outcomes) if isinstance(draft, Draft) else draft for draft in drafts]
    return [_result(index, outcome) for index, outcome in enumerate(each)]


def _draft(item: Any, window_s: int) -> Draft | InvalidRequest:
    try:
        asked = TaskRequest.model_validate(item)
    except ValidationError as error:
        return invalid_request(error.errors())
    created = now()
    given = asked.model_dump(exclude={"target", "deadline"})
    task = RaterTask(
        **given,
        id=new_id("task_"),
        target=Target(**asked.target.model_dump()),
        created=created,
        deadline=created + window_s if asked.deadline is None else asked.deadline.timestamp(),
    )
    return Draft(task=task, digest=hashlib.sha256(asked.model_dump_json().encode()).hexdigest())


def _result(index: int, outcome: Added | ApiError) -> TaskResult:
    if isinstance(outcome, ApiError):
        error = ErrorDetail.model_validate(outcome.body()["error"])
        return TaskResult(index=index, status=outcome.status, error=error)
    return TaskResult(index=index, status=201 if outcome.new else 200, id=outcome.task_id)


def _progress(rater: str, done: Progress) -> dict[str, Any]:
    return {"rater": rater, "done": done.done, "skipped": done.skipped, "left": done.left}
