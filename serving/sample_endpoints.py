"""`POST /v1/samples` on the admin listener: what several versions answer to one prompt, side by side, not blind.

For an operator's eyes. Nothing of it is traffic: no record is kept, so nobody can vote on it and nothing is trained on
it; but the versions must be resident, and it takes its turn in the engine like any chat.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from core.access import ACT, Caller
from core.errors import ApiError
from core.http import CLIENT_CLOSED, ERRORS, until_disconnect
from core.records import policy_name
from serving.chats import Chat, Chats
from serving.schemas import ChatBody, Messages
from serving.swap import Replica


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SamplesBody(_Body):
    """`{"messages": [{"role": "user", "content": "A dog is"}], "versions": [2, 3]}`."""

    messages: Messages
    versions: list[int] = Field(min_length=1, max_length=4)
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = Field(256, ge=1, le=1024)
    seed: int | None = None
    """The same for all of them."""


class Sample(_Body):
    policy_version: str
    content: str
    finish_reason: str | None


class Samples(_Body):
    """In the order in which the versions were named."""

    data: list[Sample]


def router(chats: Chats, replica: Replica) -> APIRouter:
    routes = APIRouter(responses=ERRORS)

    @routes.post("/v1/samples", response_model=Samples)
    async def sample_policies(body: SamplesBody, request: Request, caller: Annotated[Caller, ACT]) -> Response:
        """Answers by each version; 404 `model_not_found` if one is not resident."""
        found = await until_disconnect(request, _all(chats, _prepared(chats, replica, body, caller)))
        return Response(status_code=CLIENT_CLOSED) if found is None else JSONResponse(found.model_dump())

    return routes


def _prepared(chats: Chats, replica: Replica, body: SamplesBody, caller: Caller) -> list[Chat]:
    """All chats or none. Their records are never opened."""
    fields: dict[str, Any] = body.model_dump(exclude={"versions"}, exclude_none=True) | {"store": False}
    prepared: list[Chat] = []
    try:
        for version in body.versions:
            assignment = replica.acquire(policy_name(version))
            try:
                draft = ChatBody(model=assignment.name, **fields)
                prepared.append(chats.prepare(draft, caller=caller, assignment=assignment))
            except BaseException:
                replica.release(assignment)
                raise
    except BaseException:
        for chat in prepared:
            chats.turn_away(chat)
            replica.release(chat.assignment)
        raise
    return prepared


async def _all(chats: Chats, prepared: list[Chat]) -> Samples:
    """Raises ApiError: the first failure, after the others were cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(chats.answer(chat)) for chat in prepared]
    except* ApiError as failures:
        raise failures.exceptions[0] from None
    finally:
        for chat in prepared:
            chats.end(chat)
    return Samples(data=[_shown(chat, task.result()) for chat, task in zip(prepared, tasks, strict=True)])


def _shown(chat: Chat, answer: dict[str, Any]) -> Sample:
    choice = answer["choices"][0]
    content = choice["message"]["content"] or ""
    return Sample(policy_version=chat.assignment.name, content=content, finish_reason=choice["finish_reason"])
