"""The routes of stored completions, as OpenAI's clients know them: get, list, input messages, labels, delete."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from core.access import Caller, Needs
from core.http import ERRORS
from serving import stored
from serving.stored import Filter, StoredCompletions
from serving.stored_schemas import (
    MAX_PAGE,
    CompletionPath,
    Deleted,
    Labels,
    StoredCompletion,
    StoredInputs,
    StoredList,
)

_ONE = "/v1/chat/completions/{completion_id}"
_LABEL = re.compile(r"metadata\[(.{1,64})\]")
_Reader = Annotated[Caller, Depends(Needs("read"))]
_Changer = Annotated[Caller, Depends(Needs("chat"))]


class PageQuery(BaseModel):
    model_config = ConfigDict(extra="ignore")

    after: str | None = Field(None, max_length=256)
    limit: int = Field(20, ge=1, le=MAX_PAGE)
    order: Literal["asc", "desc"] = "asc"


class ListQuery(PageQuery):
    model: str | None = Field(None, max_length=64)
    """`assistant@v3`: the version that wrote it."""


def router(completions: StoredCompletions) -> APIRouter:
    """The routes over one Redis."""
    routes = APIRouter(responses=ERRORS)

    @routes.get("/v1/chat/completions")
    async def list_chat_completions(
        query: Annotated[ListQuery, Query()], request: Request, caller: _Reader
    ) -> StoredList:
        """By when they were asked for, oldest first; `metadata[name]=value` keeps those with these labels."""
        labels = {found[1]: value for name, value in request.query_params.items() if (found := _LABEL.fullmatch(name))}
        wanted = Filter(model=query.model, metadata=labels)
        return await completions.page(caller, wanted, after=query.after, limit=query.limit, order=query.order)

    @routes.get(_ONE)
    async def get_chat_completion(completion_id: CompletionPath, caller: _Reader) -> StoredCompletion:
        """One that has ended, for as long as it can be voted on."""
        return stored.body(await completions.get(caller, completion_id), caller)

    @routes.get(f"{_ONE}/messages")
    async def list_chat_completion_messages(
        completion_id: CompletionPath, query: Annotated[PageQuery, Query()], caller: _Reader
    ) -> StoredInputs:
        """The turns of its prompt."""
        kept = await completions.get(caller, completion_id)
        return stored.inputs(kept, after=query.after, limit=query.limit, order=query.order)

    @routes.post(_ONE)
    async def update_chat_completion(completion_id: CompletionPath, body: Labels, caller: _Changer) -> StoredCompletion:
        """Replaces its `metadata`; nothing else can be changed."""
        return stored.body(await completions.label(caller, completion_id, body.metadata or {}), caller)

    @routes.delete(_ONE)
    async def delete_chat_completion(completion_id: CompletionPath, caller: _Changer) -> Deleted:
        """Forgets it: no later snapshot trains on it."""
        await completions.delete(caller, completion_id)
        return Deleted(id=completion_id)

    return routes
