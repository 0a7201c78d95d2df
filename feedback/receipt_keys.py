"""The key ring of receipts in Redis: one field of the deployment's hash, made at first use and rotated by itself."""

from collections.abc import Awaitable, Callable
from typing import cast

import redis.asyncio
from redis.exceptions import WatchError

from core import keys
from core.records import now
from feedback import scripts
from feedback.receipts import KeyRing

ROTATE_AFTER_S = 30 * 86_400
"""How long a key signs."""
_FIELD = "receipt_keys"


async def ring(client: redis.asyncio.Redis) -> KeyRing:
    """The ring as it is. It is read for each receipt, so that a retired key is refused at once, on every replica.

    Raises:
        Unavailable: Redis is away.
    """
    with scripts.unavailable_when_away():
        found = await _read(client)
    return found or await change(client, lambda current: current)


async def signing_ring(client: redis.asyncio.Redis) -> KeyRing:
    """The ring, with a fresh key in front if the newest is due.

    Raises:
        Unavailable: Redis is away.
    """
    found = await ring(client)
    if now() - found.keys[0].created < ROTATE_AFTER_S:
        return found
    return await change(client, _rotated_if_due)


async def change(client: redis.asyncio.Redis, to: Callable[[KeyRing], KeyRing]) -> KeyRing:
    """Replaces the ring by what `to` makes of it, nothing in between lost: `change(client, lambda ring:
    ring.without("5d41402a", now=now()))` retires a key.

    Raises:
        Unavailable: Redis is away.
    """
    with scripts.unavailable_when_away():
        while True:
            try:
                async with client.pipeline() as pipeline:
                    await pipeline.watch(keys.DEPLOYMENT)
                    found = await _read(pipeline)
                    new = to(found or KeyRing.new(now=now()))
                    if new != found:
                        pipeline.multi()  # type: ignore[no-untyped-call]
                        pipeline.hset(keys.DEPLOYMENT, _FIELD, new.model_dump_json())
                        await pipeline.execute()
                    return new
            except WatchError:  # somebody else wrote first
                continue


async def _read(client: redis.asyncio.Redis) -> KeyRing | None:
    found = await cast(Awaitable[str | None], client.hget(keys.DEPLOYMENT, _FIELD))
    return None if found is None else KeyRing.model_validate_json(found)


def _rotated_if_due(current: KeyRing) -> KeyRing:
    is_due = now() - current.keys[0].created >= ROTATE_AFTER_S
    return current.rotated(now=now()) if is_due else current
