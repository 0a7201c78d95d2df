"""The key ring in Redis: made once, rotated when due, a retired key gone at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
import redis

from core import keys
from core.errors import Unavailable
from core.records import now
from core.redis import connect_async
from feedback import receipt_keys
from feedback.receipts import Key, KeyRing

T = TypeVar("T")


def _put(client: redis.Redis, *, age_s: float) -> KeyRing:
    ring = KeyRing(keys=(Key(id="0000beef", secret="ab" * 32, created=now() - age_s),))
    client.hset(keys.DEPLOYMENT, "receipt_keys", ring.model_dump_json())
    return ring


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_the_ring_is_made_once(redis_server: str, redis_client: redis.Redis) -> None:
    """Fifty first uses at once, from clients of their own, see one key; other fields of the deployment stay."""
    redis_client.hset(keys.DEPLOYMENT, "fold_salt", "00")

    async def first_uses() -> set[str]:
        clients = [connect_async(redis_server) for _ in range(5)]
        rings = await asyncio.gather(*(receipt_keys.ring(client) for client in clients for _ in range(10)))
        for client in clients:
            await client.aclose()
        return {ring.model_dump_json() for ring in rings}

    [ring] = _run(first_uses())
    assert redis_client.hgetall(keys.DEPLOYMENT) == {"fold_salt": "00", "receipt_keys": ring}


def test_a_key_signs_for_a_month(redis_server: str, redis_client: redis.Redis) -> None:
    """A young one goes on; one that is due gets a successor, of which many signers at once make only one."""

    async def signers() -> set[str]:
        client = connect_async(redis_server)
        rings = await asyncio.gather(*(receipt_keys.signing_ring(client) for _ in range(20)))
        await client.aclose()
        return {ring.model_dump_json() for ring in rings}

    young = _put(redis_client, age_s=receipt_keys.ROTATE_AFTER_S - 60)
    assert _run(signers()) == {young.model_dump_json()}
    _put(redis_client, age_s=receipt_keys.ROTATE_AFTER_S)
    [rotated] = _run(signers())
    found = KeyRing.model_validate_json(rotated)
    assert [key.id for key in found.keys] == [found.keys[0].id, "0000beef"]


def test_a_retired_key_is_gone_from_redis(redis_server: str, redis_client: redis.Redis) -> None:
    """Also the only one: then a fresh one signs."""
    _put(redis_client, age_s=0)

    async def retire() -> KeyRing:
        client = connect_async(redis_server)
        ring = await receipt_keys.change(client, lambda ring: ring.without("0000beef", now=now()))
        assert await receipt_keys.ring(client) == ring
        await client.aclose()
        return ring

    ring = _run(retire())
    assert "0000beef" not in (redis_client.hget(keys.DEPLOYMENT, "receipt_keys") or "")
    assert len(ring.keys) == 1


def test_without_redis_there_are_no_receipts() -> None:
    """Unavailable, as everywhere in the feedback API."""

    async def ask() -> None:
        client = connect_async("redis://127.0.0.1:1")
        try:
            await receipt_keys.signing_ring(client)
        finally:
            await client.aclose()

    with pytest.raises(Unavailable):
        _run(ask())
