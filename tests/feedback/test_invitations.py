"""Invitations in Redis: whose name may be given, what stands, and what ends it."""

import asyncio
from dataclasses import replace

import pytest
import redis

from core import audit, keys, sessions
from core.errors import InvalidRequest
from core.redis import connect_async
from core.sessions import Session
from feedback import invitations
from feedback.invitations import Invitation

KEY = invitations.signing_key(b"a secret of thirty-two characters")


def session(it: Invitation) -> Session:
    """What the link holds."""
    path, _, token = invitations.link(KEY, it).partition("=")
    assert path == "/tasks#invitation"
    found = sessions.read(KEY, token, now=it.created)
    assert found is not None
    return found


def stands(url: str, session: Session) -> bool | None:
    async def ask() -> bool | None:
        client = connect_async(url)
        try:
            return await invitations.stands(client, session)
        finally:
            await client.aclose()

    return asyncio.run(ask())


def test_it_stands_until_it_is_ended(redis_server: str, redis_client: redis.Redis) -> None:
    """Another of the same rater, or a dismissal, ends it for good: a later one does not bring it back."""
    first = invitations.invite(redis_client, "ann", days=30, actor="test")
    assert first.expires == int(first.created) + 30 * 86400
    old = session(first)
    assert (old.rater, old.expires, stands(redis_server, old)) == ("ann", first.expires, True)
    new = session(invitations.invite(redis_client, "ann", days=1, actor="test"))
    assert [stands(redis_server, it) for it in (old, new)] == [False, True]
    assert invitations.dismiss(redis_client, "ann", actor="test", reason="over") is True
    assert invitations.dismiss(redis_client, "ann", actor="test", reason="again") is False
    invitations.invite(redis_client, "ann", days=1, actor="test")
    assert [stands(redis_server, it) for it in (old, new)] == [False, False]


def test_it_is_of_one_rater(redis_server: str, redis_client: redis.Redis) -> None:
    """Whose id another name does not open."""
    ann = session(invitations.invite(redis_client, "ann", days=30, actor="test"))
    invitations.invite(redis_client, "ben", days=30, actor="test")
    assert stands(redis_server, replace(ann, rater="ben")) is False


def test_without_redis_nobody_knows() -> None:
    assert stands("redis://127.0.0.1:1", Session(rater="ann", expires=1, invitation="5d" * 16)) is None


@pytest.mark.parametrize("rater", ["ann", "Ann.B_1", "7", "ann@example.org", "a" * 128, "webster", "keyes"])
def test_what_a_rater_may_be_called(redis_client: redis.Redis, rater: str) -> None:
    assert invitations.invite(redis_client, rater, days=1, actor="test").rater == rater


@pytest.mark.parametrize(
    "rater",
    [
        *("", "web-1", "web-" + "0f" * 16, "key_9f86d081884c", "ai:judge", "@acme/ann", "address:1", "a:b"),
        *("-", "_ann", "a/b", "a b", "ann\n", "é", "a" * 129),
    ],
)
def test_nobody_is_made_somebody_else(redis_client: redis.Redis, rater: str) -> None:
    """An anonymous visitor, a key, an AI, another tenant's rater; nor has a name what keys are divided by."""
    with pytest.raises(InvalidRequest):
        invitations.invite(redis_client, rater, days=1, actor="test")
    assert redis_client.keys("*") == []


def test_the_audit_tells_of_it_without_a_name(redis_client: redis.Redis) -> None:
    """By whom, why, and of whom by another name, since the trail is kept when a rater is erased."""
    invitations.invite(redis_client, "ann", days=30, actor="cli:bob")
    invitations.dismiss(redis_client, "ann", actor="cli:bob", reason="the work is done")
    invited, dismissed = audit.history(redis_client)
    assert (invited.action, invited.actor, invited.reason) == ("rater.invite", "cli:bob", "for 30 days")
    assert (dismissed.action, dismissed.actor, dismissed.reason) == ("rater.dismiss", "cli:bob", "the work is done")
    assert invited.subject == dismissed.subject and invited.subject.startswith("rater_")
    assert "ann" not in str(redis_client.xrange(keys.AUDIT)) and audit.check(redis_client).fault == ""


def test_those_that_stand(redis_client: redis.Redis) -> None:
    """By name; what has come to its end is none."""
    ben = invitations.invite(redis_client, "ben", days=30, actor="test")
    ann = invitations.invite(redis_client, "ann", days=30, actor="test")
    over = Invitation(id="5d" * 16, rater="cid", created=1.0, expires=2, actor="test")
    redis_client.hset(keys.INVITATIONS, "cid", over.to_json())
    assert invitations.standing(redis_client) == [ann, ben]
