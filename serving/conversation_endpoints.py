"""The routes of the page's conversations: `/page/conversations`, for sessions alone."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from core.access import Caller, NeedsSession
from core.errors import RateLimited
from core.http import ERRORS
from core.quotas import Quotas, duration
from core.records import Conversation, Turn
from core.text import Text
from core.visitors import WRITES_PER_MINUTE
from serving.conversations import ConversationConflict, Conversations

MAX_PAGE = 100
_ID = r"^conv_[0-9a-f]{32}$"
Visitor = Annotated[Caller, Depends(NeedsSession())]
ConversationPath = Annotated[str, Path(pattern=_ID)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConversationBody(_Body):
    """All of it: `{"title": "Dogs", "revision": 0, "turns": [{"question": "A dog is", "answers": […]}]}`."""

    title: Text = Field(max_length=200)
    turns: list[Turn]
    revision: StrictInt = Field(ge=0)
    """The one that was read; 0 of a new one."""


class ConversationObject(_Body):
    """Times are unix seconds."""

    id: str
    title: str
    created_at: float
    updated_at: float
    revision: int
    turns: list[Turn]


class ConversationHeading(_Body):
    id: str
    title: str
    updated_at: float


class ConversationList(_Body):
    """A page, the last written first."""

    data: list[ConversationHeading]
    has_more: bool
    last_id: str | None


class PageQuery(_Body):
    after: str | None = Field(None, max_length=64)
    """`last_id` of the page before."""
    limit: int = Field(50, ge=1, le=MAX_PAGE)


def router(conversations: Conversations, quotas: Quotas) -> APIRouter:
    """The routes over one Redis."""
    routes = APIRouter(responses=ERRORS)

    @routes.get("/page/conversations")
    async def list_conversations(query: Annotated[PageQuery, Query()], caller: Visitor) -> ConversationList:
        """The session's own."""
        page = await conversations.page(caller.visitor, after=query.after, limit=query.limit)
        data = [ConversationHeading(id=it.id, title=it.title, updated_at=it.updated) for it in page.headings]
        return ConversationList(data=data, has_more=page.more, last_id=page.last)

    @routes.get("/page/conversations/{conversation_id}")
    async def get_conversation(conversation_id: ConversationPath, caller: Visitor) -> ConversationObject:
        """One of them."""
        return _shown(await conversations.get(caller.visitor, conversation_id))

    @routes.put("/page/conversations/{conversation_id}", response_model=ConversationObject)
    async def put_conversation(conversation_id: ConversationPath, body: ConversationBody, caller: Visitor) -> Response:
        """Writes it; 409 if somebody wrote since `revision`, with what stands in `conversation` beside the `error`."""
        wait_s = await quotas.draw(caller.counted_as, "writes", per_minute=WRITES_PER_MINUTE)
        if wait_s:
            said = f"A session may write {WRITES_PER_MINUTE} times a minute; try again in {duration(wait_s)}."
            raise RateLimited(said, wait_s=wait_s)
        try:
            put = await conversations.put(
                caller.visitor, conversation_id, title=body.title, turns=body.turns, revision=body.revision
            )
        except ConversationConflict as conflict:
            standing = _shown(conflict.standing).model_dump(mode="json")
            return JSONResponse(conflict.body() | {"conversation": standing}, conflict.status, conflict.headers())
        return JSONResponse(_shown(put).model_dump(mode="json"))

    @routes.delete("/page/conversations/{conversation_id}", status_code=204)
    async def delete_conversation(conversation_id: ConversationPath, caller: Visitor) -> None:
        """Forgets it."""
        await conversations.delete(caller.visitor, conversation_id)

    @routes.delete("/page/conversations", status_code=204)
    async def delete_conversations(caller: Visitor) -> None:
        """Forgets all of the session's."""
        await conversations.delete_all(caller.visitor)

    return routes


def _shown(it: Conversation) -> ConversationObject:
    return ConversationObject(
        id=it.id,
        title=it.title,
        created_at=it.created,
        updated_at=it.updated,
        revision=it.revision,
        turns=it.turns,
    )
