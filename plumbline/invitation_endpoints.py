"""Invitations over HTTP, for the deployment's operators, on the admin listener. Each change is audited with its actor.

Each route is a plain function, which FastAPI runs in a thread, as the client blocks.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import redis
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from core.access import ACT, LOOK, Caller
from core.errors import NotFound, Unavailable
from core.http import ERRORS
from feedback import invitations
from feedback.invitations import MAX_DAYS, Invitation
from feedback.schemas import as_time
from plumbline.because import Because

T = TypeVar("T")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InvitationRequest(_Body):
    """`{"rater": "ann", "days": 30}`."""

    rater: str
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 30


class InvitationObject(_Body):
    """Whom the page knows as a rater, and until when."""

    rater: str
    object: Literal["invitation"] = "invitation"
    created_at: datetime
    expires_at: datetime
    actor: str
    """Who invited them."""


class NewInvitation(InvitationObject):
    """One that was just made."""

    link: str
    """Comes behind the address of the page; shown this once."""


class InvitationList(_Body):
    """All that stand, by rater."""

    object: Literal["list"] = "list"
    data: list[InvitationObject]


class Dismissed(_Body):
    """`{"object": "invitation.ended", "rater": "ann"}`."""

    rater: str
    object: Literal["invitation.ended"] = "invitation.ended"


def routes(client: redis.Redis, secret: bytes) -> APIRouter:
    router = APIRouter(responses=ERRORS)

    @router.post("/v1/invitations", status_code=201)
    def invite_rater(body: InvitationRequest, response: Response, caller: Annotated[Caller, ACT]) -> NewInvitation:
        """Invites a rater to the page, in place of an earlier invitation of theirs, which ends."""
        it = _asked(lambda: invitations.invite(client, body.rater, days=body.days, actor=caller.actor))
        response.headers["cache-control"] = "no-store"
        link = invitations.link(invitations.signing_key(secret), it)
        return NewInvitation(**_shown(it).model_dump(), link=link)

    @router.get("/v1/invitations", dependencies=[LOOK])
    def list_invitations() -> InvitationList:
        """Who is invited, and until when."""
        return InvitationList(data=[_shown(it) for it in _asked(lambda: invitations.standing(client))])

    @router.delete("/v1/invitations/{rater}")
    def dismiss_rater(rater: str, query: Annotated[Because, Query()], caller: Annotated[Caller, ACT]) -> Dismissed:
        """Ends an invitation, with its link and the sessions that came of it."""
        if not _asked(lambda: invitations.dismiss(client, rater, actor=caller.actor, reason=query.reason)):
            raise NotFound("Nobody of that name is invited.", param="rater", code="invitation_not_found")
        return Dismissed(rater=rater)

    return router


def _asked(work: Callable[[], T]) -> T:
    try:
        return work()
    except RedisError as error:
        raise Unavailable("Invitations can be neither read nor changed right now: Redis is away.") from error


def _shown(it: Invitation) -> InvitationObject:
    return InvitationObject(
        rater=it.rater, created_at=as_time(it.created), expires_at=as_time(it.expires), actor=it.actor
    )
