"""API keys over HTTP, for the deployment's operators, on the admin listener. Each change is audited with its actor."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import redis
from fastapi import APIRouter, Query, Response
from redis.exceptions import RedisError

from core import api_keys, usage
from core.access import ACT, LOOK, Caller
from core.api_keys import Standing
from core.errors import InvalidRequest, NotFound, Unavailable
from core.http import ERRORS
from core.records import now
from core.secret import check
from plumbline import key_schemas
from plumbline.key_schemas import KeyList, KeyObject, KeyRequest, NewKeyObject, RevokeQuery, UsageObject

T = TypeVar("T")


def routes(client: redis.Redis, secret: bytes) -> APIRouter:
    router = APIRouter(responses=ERRORS)

    @router.post("/v1/keys", status_code=201)
    async def create_key(body: KeyRequest, response: Response, caller: Annotated[Caller, ACT]) -> NewKeyObject:
        """Makes a key. Its token is in this answer and nowhere else."""
        expires = None if body.expires_at is None else body.expires_at.timestamp()
        if expires is not None and expires <= now():
            raise InvalidRequest("It lies in the past.", param="expires_at")
        token, key = api_keys.mint(
            secret,
            name=body.name,
            scopes=body.scopes,
            tenant=body.tenant,
            limits=body.limits,
            expires=expires,
            actor=caller.actor,
        )
        await _asked(partial(check, client, secret))
        await _asked(partial(api_keys.create, client, key))
        response.headers["cache-control"] = "no-store"
        return key_schemas.new_key_object(Standing(key=key, revoked=None), token)

    @router.get("/v1/keys", dependencies=[LOOK])
    async def list_keys() -> KeyList:
        """All keys, also the revoked ones."""
        return KeyList(data=[key_schemas.key_object(it) for it in await _asked(partial(api_keys.all_keys, client))])

    @router.delete("/v1/keys/{key_id}")
    async def revoke_key(
        key_id: str, query: Annotated[RevokeQuery, Query()], caller: Annotated[Caller, ACT]
    ) -> KeyObject:
        """Revokes a key: every replica refuses it within two seconds. Twice is once."""
        await _found(client, key_id)
        await _asked(partial(api_keys.revoke, client, key_id, actor=caller.actor, reason=query.reason))
        return key_schemas.key_object(await _found(client, key_id))

    @router.get("/v1/keys/{key_id}/usage", dependencies=[LOOK])
    async def get_key_usage(key_id: str) -> UsageObject:
        """What the key used, by day; `page` is all visitors of the page together."""
        if key_id != usage.PAGE:
            await _found(client, key_id)
        return key_schemas.usage_object(key_id, await _asked(partial(usage.by_day, client, key_id)))

    return router


async def _asked(read: Callable[[], T]) -> T:
    """What a blocking look at Redis finds.

    Raises:
        Unavailable: Redis is away.
    """
    try:
        return await asyncio.to_thread(read)
    except RedisError as error:
        raise Unavailable("API keys can be neither read nor changed right now: Redis is away.") from error


async def _found(client: redis.Redis, key_id: str) -> Standing:
    for it in await _asked(partial(api_keys.all_keys, client)):
        if it.key.id == key_id:
            return it
    raise NotFound("There is no such key.", code="key_not_found")
