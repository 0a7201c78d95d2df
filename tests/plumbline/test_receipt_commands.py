"""`plumbline receipts`, as an operator calls it."""

import asyncio
import re
import subprocess

import pytest
import redis

from core import keys
from core.records import Target, now
from core.redis import connect_async
from feedback import receipt_keys, receipts
from feedback.receipts import MAX_LIFE_S, Key, KeyRing
from tests import warm


def plumbline(*arguments: str, redis_url: str) -> subprocess.CompletedProcess[str]:
    return warm.run("plumbline.cli", "receipts", *arguments, REDIS_URL=redis_url)


def ring(url: str) -> KeyRing:
    async def read() -> KeyRing:
        client = connect_async(url)
        try:
            return await receipt_keys.ring(client)
        finally:
            await client.aclose()

    return asyncio.run(read())


@pytest.fixture
def old(redis_client: redis.Redis) -> Key:
    """The only key of the deployment."""
    key = Key(id="0000beef", secret="ab" * 32, created=now() - 60)
    redis_client.hset(keys.DEPLOYMENT, "receipt_keys", KeyRing(keys=(key,)).model_dump_json())
    return key


def test_a_rotated_key_verifies_until_its_receipts_are_over(redis_server: str, old: Key) -> None:
    """A fresh key signs; receipts from before stay good; no secret is shown."""
    target = Target(type="completion", id="chatcmpl-1")
    token, _ = receipts.issue(ring(redis_server), target=target, rater="r", kinds=["thumb"], expires_in=60, now=now())
    done = plumbline("rotate", redis_url=redis_server)
    assert (done.returncode, done.stderr) == (0, "")
    new, before = done.stdout.splitlines()
    found = ring(redis_server)
    assert re.fullmatch(rf"{found.keys[0].id}  since [0-9: -]{{19}}  signs", new)
    assert re.fullmatch(r"0000beef  since [0-9: -]{19}  verifies until [0-9: -]{19}", before)
    assert receipts.verify(found, token, now=now()).rater == "r"
    assert plumbline("list", redis_url=redis_server).stdout == done.stdout
    assert [key.secret for key in found.keys if key.secret in done.stdout] == []


def test_a_key_whose_receipts_are_over_is_named_so(redis_server: str, redis_client: redis.Redis, old: Key) -> None:
    """It is there until the next rotation, which drops it."""
    found = KeyRing(keys=(Key.new(now=now() - MAX_LIFE_S - 1), old))
    redis_client.hset(keys.DEPLOYMENT, "receipt_keys", found.model_dump_json())
    assert plumbline("list", redis_url=redis_server).stdout.splitlines()[1].endswith("  has no receipts left")
    assert "0000beef" not in plumbline("rotate", redis_url=redis_server).stdout


def test_a_retired_key_is_refused_at_once(redis_server: str, old: Key) -> None:
    """Also the one that signs: then a fresh one does. An unknown key is one line, and changes nothing."""
    wrong = plumbline("retire", "beef", redis_url=redis_server)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert ring(redis_server).keys == (old,)
    done = plumbline("retire", "0000beef", redis_url=redis_server)
    assert done.returncode == 0
    assert [key.id for key in ring(redis_server).keys] == [done.stdout[:8]] != ["0000beef"]


def test_without_redis_it_is_one_line() -> None:
    done = plumbline("list", redis_url="redis://127.0.0.1:1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
