"""`POST /page/session`: how the page gets its session, and what the visitor may do with it.

The one request of the page that needs no CSRF token, since it is what gives it out. Another site cannot make it: it
takes JSON, so a browser asks first whether the other origin may (it may not), and a browser that says where a request
comes from is believed. So nobody can exchange a visitor's session for another one behind their back, and nothing but
a page of this origin reads the answer.

A link with an invitation is another matter: whoever posts one could have others write under a name that they share.
So the page says who one is about to be, and goes on only with the visitor's yes.
"""

import hmac
import time

import redis.asyncio
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from core import sessions, visitors
from core.access import Limits
from core.errors import AlreadyDecided, Forbidden, RateLimited, Unavailable
from core.http import ERRORS
from core.quotas import Quotas, duration
from core.sessions import Session
from core.visitors import LIMITS, SESSIONS_PER_MINUTE, Visitors
from feedback import consent


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SessionRequest(_Body):
    """`{}`; or `{"invitation": "s2.…"}` of who follows a link."""

    invitation: str | None = Field(None, max_length=1000)
    accept: bool = False
    """The visitor was told who they will be, and said yes."""


class SessionObject(_Body):
    """The session that the cookie stands for."""

    rater: str
    """Whom all chats and votes of the session are credited to."""
    csrf: str
    """Goes with everything that is not GET or HEAD, as `x-csrf-token`."""
    expires_at: int
    """Unix seconds; asking again renews it, unless the rater was invited."""
    train: bool | None
    """What the rater said of the use of all that they write and vote; null if they never said, or nobody knows now."""
    limits: Limits


def routes(door: Visitors, quotas: Quotas, client: redis.asyncio.Redis, invitation_key: bytes) -> APIRouter:
    router = APIRouter(responses=ERRORS)

    @router.post("/page/session")
    async def begin_session(body: SessionRequest, request: Request, response: Response) -> SessionObject:
        """The session of the invitation, or the one that the request comes with, renewed; without either a fresh one,
        of a rater whom nobody knows."""
        visitors.check_origin(request)
        if not door.admits(request):
            said = "Visitors without an API key are not let in from here; PLUMBLINE_PAGE=open would let them in."
            raise Forbidden(said, code="visitors_not_admitted")
        session = await door.session(request)
        if body.invitation is not None:
            invited = await _invited(door, invitation_key, body.invitation)
            if not body.accept and (session is None or session.rater != invited.rater):
                raise AlreadyDecided(_question(invited), code="confirmation_required")
            session = invited
        elif session is None:
            await _check_arrivals(door, quotas, request)
            session = sessions.begin(now=door.clock())
        session = sessions.renewed(session, now=door.clock())
        door.hand_over(request, response, session)
        response.headers["cache-control"] = "no-store"
        return SessionObject(
            rater=session.rater,
            csrf=sessions.csrf(door.key, session),
            expires_at=session.expires,
            train=await _consent(client, session.rater),
            limits=LIMITS,
        )

    return router


async def _invited(door: Visitors, key: bytes, token: str) -> Session:
    """The session that an invitation gives.

    Raises:
        Forbidden: it is forged or over.
        Unavailable: Redis is away.
    """
    session = sessions.read(key, token, now=door.clock())
    stands = session is not None and await door.invited(session)
    if stands is None:
        raise Unavailable("Nobody can say right now whether this invitation stands; try again.")
    if session is None or not stands:
        said = "This invitation is not good any more: ask whoever sent it for another."
        raise Forbidden(said, code="invitation_refused")
    return session


async def _check_arrivals(door: Visitors, quotas: Quotas, request: Request) -> None:
    """Raises RateLimited: too many new sessions from there. Of the address a keyed hash is kept, for a day."""
    address = hmac.digest(door.key, f"address {visitors.address(request)}".encode(), "sha256").hex()
    wait_s = await quotas.draw(f"address:{address}", "sessions", per_minute=SESSIONS_PER_MINUTE)
    if wait_s:
        said = f"Your network began {SESSIONS_PER_MINUTE} sessions in a minute; try again in {duration(wait_s)}."
        raise RateLimited(said, wait_s=wait_s)


async def _consent(client: redis.asyncio.Redis, rater: str) -> bool | None:
    try:
        given = await consent.given(client, rater)
    except Unavailable:
        return None
    return None if given is None else given.train


def _question(invited: Session) -> str:
    until = time.strftime("%d %B %Y", time.gmtime(invited.expires))
    return f"You are invited to rate here as {invited.rater}, until {until}."
