"""`POST /v1/feedback/tokens` gives out receipts; `presented` and `signed` are how a vote is cast with one.

An application asks for a receipt with its own key and hands it to the browser, which sends it with each vote as
`Authorization: Bearer v1.…`. Other bearer tokens are none of ours and pass.
"""

import contextlib
import json
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal, cast

import redis.asyncio
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from core import keys, metrics
from core.access import DEPLOYMENT, RECEIPT, Caller, Needs
from core.errors import Forbidden, NotFound, Unauthorized
from core.records import Kind, Target, now
from feedback import events, receipt_keys, receipts, scripts
from feedback.events import Ballot
from feedback.receipts import MAX_LIFE_S, Receipt
from feedback.schemas import Id

_SCHEME = f"Bearer {RECEIPT}"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenTarget(_Body):
    """What may be voted on, every choice of it: `{"type": "completion", "id": "chatcmpl-41ab…"}`."""

    type: Literal["completion", "comparison"]
    id: Id


class TokenRater(_Body):
    """Who may vote: `{"id": "user-7"}`."""

    id: Id


class TokenRequest(_Body):
    """`{"target": {"type": "completion", "id": "chatcmpl-41ab…"}, "rater": {"id": "user-7"}, "kinds": ["thumb"]}`."""

    target: TokenTarget
    rater: TokenRater
    kinds: Annotated[list[Kind], Field(min_length=1, max_length=7)]
    expires_in: StrictInt = Field(3600, ge=1, le=MAX_LIFE_S)
    """Seconds."""


class TokenObject(_Body):
    """The receipt, and where to send votes with it."""

    object: Literal["feedback.token"] = "feedback.token"
    token: str
    url: Literal["/v1/feedback"] = "/v1/feedback"
    """A path of this service, whatever name it has outside."""
    expires_at: datetime


def routes(client: redis.asyncio.Redis) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/feedback/tokens", status_code=201)
    async def create_token(body: TokenRequest, caller: Annotated[Caller, Depends(Needs("feedback"))]) -> TokenObject:
        """A receipt, also for an answer that is still being written."""
        if caller.visitor:
            raise Forbidden("A session votes by itself: receipts are for applications.", code="insufficient_scope")
        target = Target(type=body.target.type, id=body.target.id)
        for kind in body.kinds:
            events.check_kind(target.type, kind, param="kinds")
        await _check_exists(client, target, caller)
        ring = await receipt_keys.signing_ring(client)
        token, receipt = receipts.issue(
            ring,
            target=target,
            rater=caller.speaks_for(body.rater.id),
            kinds=sorted(set(body.kinds)),
            expires_in=body.expires_in,
            now=now(),
            key_id=caller.key_id,
        )
        return TokenObject(token=token, expires_at=datetime.fromtimestamp(receipt.expires, tz=UTC))

    return router


async def presented(client: redis.asyncio.Redis, request: Request) -> Receipt | None:
    """What the request's receipt allows; None if it brings none.

    Raises:
        Unauthorized: the receipt is forged, expired or of a retired key.
        Unavailable: Redis is away.
    """
    authorization = request.headers.get("authorization", "")
    if not authorization.startswith(_SCHEME):
        return None
    ring = await receipt_keys.ring(client)
    with _counted():
        return receipts.verify(ring, authorization.removeprefix("Bearer "), now=now())


def signed(ballot: Ballot, receipt: Receipt) -> Ballot:
    """The ballot as the receipt's rater casts it.

    Raises:
        Forbidden: the receipt is for another target, kind or rater.
    """
    with _counted():
        receipts.check_scope(receipt, target=ballot.target, kind=ballot.kind, rater=ballot.rater)
    return replace(ballot, rater=receipt.rater, source="receipt")


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except (Unauthorized, Forbidden) as refused:
        metrics.RECEIPTS_REFUSED.labels(refused.error_code).inc()
        raise


async def _check_exists(client: redis.asyncio.Redis, target: Target, caller: Caller) -> None:
    completion = target.type == "completion"
    key, field = (keys.completion(target.id), "outline") if completion else (keys.comparison(target.id), "record")
    with scripts.unavailable_when_away():
        found = await cast(Awaitable[str | None], client.hget(key, field))
    if found is None or not caller.owns(json.loads(found).get("tenant", DEPLOYMENT)):
        message = f"There is no such {target.type}, or it is too old to be voted on."
        raise NotFound(message, param="target", code="target_not_found")
