"""The evidence of a release in Redis: one writer at a time, each entry of the log once, whatever is repeated."""

import time

import pytest
import redis

from core import evidence as store
from core import keys
from core.evidence import Evidence, Voter

FIRST = Evidence(release="rel_7", position="10-0", wins=1)
SECOND = Evidence(release="rel_7", position="20-0", wins=1, losses=1)
ONE, OTHER = {"ab": Voter(outcome="win")}, {"cd": Voter(outcome="loss", candidate_thumb=-1)}


@pytest.fixture
def client(redis_client: redis.Redis) -> redis.Redis:
    """The lease is with `a`."""
    assert store.claim(redis_client, "a", lease_s=60)
    return redis_client


def test_what_is_written_is_read(client: redis.Redis) -> None:
    """Evidence and people, from nothing on."""
    assert store.load(client, "rel_7") is None
    assert store.save(client, FIRST, ONE, before=None, owner="a")
    assert store.save(client, SECOND, OTHER, before="10-0", owner="a")

    assert store.load(client, "rel_7") == SECOND
    assert store.voters(client, "rel_7", ["ab", "cd", "ef"]) == ONE | OTHER
    assert store.voters(client, "rel_7", []) == {}
    assert client.ttl(keys.release_voters("rel_7")) > 0


def test_a_repeated_write_is_one(client: redis.Redis) -> None:
    """The Redis client's silent retry succeeds and changes nothing."""
    assert store.save(client, FIRST, ONE, before=None, owner="a")
    assert store.save(client, FIRST, ONE, before=None, owner="a")

    assert store.load(client, "rel_7") == FIRST


def test_who_comes_late_writes_nothing(client: redis.Redis) -> None:
    """A controller that was paused since the position moved on is told to look again."""
    store.save(client, FIRST, ONE, before=None, owner="a")
    store.save(client, SECOND, OTHER, before="10-0", owner="a")

    stale = FIRST.model_copy(update={"position": "15-0", "losses": 9})
    assert not store.save(client, stale, {"ef": Voter(outcome="loss")}, before="10-0", owner="a")
    assert store.load(client, "rel_7") == SECOND
    assert store.voters(client, "rel_7", ["ef"]) == {}


def test_one_holds_the_lease(client: redis.Redis) -> None:
    """The holder may renew it; another waits until it is over, and then the first one writes nothing any more."""
    assert store.claim(client, "a", lease_s=0.3)
    assert not store.claim(client, "b", lease_s=60)
    assert not store.save(client, FIRST, ONE, before=None, owner="b")

    time.sleep(0.35)
    assert store.claim(client, "b", lease_s=60)
    assert not store.claim(client, "a", lease_s=60)
    assert not store.save(client, FIRST, ONE, before=None, owner="a")
    assert store.save(client, FIRST, ONE, before=None, owner="b")
