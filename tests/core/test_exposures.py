"""Counters of a release, on a real Redis: once per batch, four times per person, arms and shares apart."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from core import exposures
from core.exposures import Ended, Exposure
from core.redis import connect_async

ENDED = Ended(
    release="rel_7",
    arm="candidate",
    share=0.1,
    rater="user-7",
    failed=False,
    empty=False,
    refuses=False,
    loops=False,
    cut_off=False,
    tokens=20,
    seconds=0.3,
)
Add = Callable[..., None]


@pytest.fixture
def add(redis_server: str, redis_client: redis.Redis) -> Add:
    """Counts completions as a replica does."""

    async def work(ended: list[Ended], replica: str, batch: int) -> None:
        async with connect_async(redis_server) as client:
            await exposures.add(client, ended, replica=replica, batch=batch)

    def run(*ended: Ended, replica: str = "a", batch: int = 1) -> None:
        asyncio.run(work(list(ended), replica, batch))

    return run


def test_counts_by_hand(add: Add, redis_client: redis.Redis) -> None:
    """Three people, four completions: each is counted where it belongs."""
    add(
        ENDED,
        replace(ENDED, empty=True, tokens=0, seconds=0.25),
        replace(ENDED, rater="user-8", refuses=True, loops=True, cut_off=True, tokens=4096, seconds=100.0),
        replace(ENDED, rater="user-9", arm="incumbent", failed=True, tokens=4, seconds=0.1),
    )

    arms = exposures.read(redis_client, "rel_7", share=0.1)
    assert arms["candidate"] == Exposure(
        staged=3,
        people=2,
        completions=3,
        empty=1,
        refuses=1,
        loops=1,
        firsts=2,
        cut_off=1,
        tokens=(0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1),
        seconds=(0, 1, 0, 0, 0, 0, 0, 0, 0, 1),
    )
    assert arms["incumbent"] == Exposure(
        staged=1,
        people=1,
        completions=1,
        failed=1,
        firsts=1,
        tokens=(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        seconds=(1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    )


def test_a_batch_counts_once(add: Add, redis_client: redis.Redis) -> None:
    """A batch that is sent again, as a client does that heard nothing, adds nothing; another replica's does."""
    add(ENDED, batch=3)
    add(ENDED, batch=3)
    add(ENDED, batch=2)
    assert exposures.read(redis_client, "rel_7", share=0.1)["candidate"].staged == 1

    add(ENDED, batch=4)
    add(ENDED, replica="b", batch=1)
    assert exposures.read(redis_client, "rel_7", share=0.1)["candidate"].staged == 3


def test_one_person_counts_four_times(add: Add, redis_client: redis.Redis) -> None:
    """However much one person asks, four of their completions say something of an arm, and one of its lengths."""
    add(*[replace(ENDED, refuses=True)] * 10, *[replace(ENDED, arm="incumbent")] * 2)
    add(*[replace(ENDED, refuses=True)] * 10, batch=2)

    arms = exposures.read(redis_client, "rel_7", share=0.1)
    candidate = arms["candidate"]
    assert (candidate.staged, candidate.completions, candidate.refuses, candidate.firsts) == (20, 4, 4, 1)
    assert (arms["incumbent"].completions, arms["incumbent"].firsts) == (2, 1)


def test_nobody_in_particular_is_a_new_person_each_time(add: Add, redis_client: redis.Redis) -> None:
    """Without an id there is nothing to tell people by; they are no part of the sample ratio."""
    add(*[replace(ENDED, rater=None)] * 10)

    candidate = exposures.read(redis_client, "rel_7", share=0.1)["candidate"]
    assert (candidate.completions, candidate.firsts, candidate.people) == (10, 10, 0)


def test_shares_and_releases_are_apart(add: Add, redis_client: redis.Redis) -> None:
    """A new stage begins with nobody; signs are of the whole release; another release knows nothing of them."""
    add(replace(ENDED, share=0.01, empty=True))
    add(ENDED, batch=2)
    add(replace(ENDED, release="rel_8"), batch=3)

    later = exposures.read(redis_client, "rel_7", share=0.1)["candidate"]
    assert (later.staged, later.people, later.completions, later.empty) == (1, 1, 2, 1)
    assert exposures.read(redis_client, "rel_8", share=0.1)["candidate"].completions == 1
    assert exposures.read(redis_client, "rel_9", share=0.1)["candidate"] == Exposure()


def test_nobody_can_be_read_from_it_and_it_ends(add: Add, redis_client: redis.Redis) -> None:
    """No key and no value holds a rater's id, and every key has an end."""
    add(*(replace(ENDED, rater=f"user-{number:04d}") for number in range(300)))

    names = list(redis_client.scan_iter("*release*"))
    assert len(names) == 3
    for name in names:
        assert redis_client.ttl(name) > 0
        assert b"user-0042" not in redis_client.dump(name)
    assert exposures.read(redis_client, "rel_7", share=0.1)["candidate"].people == pytest.approx(300, rel=0.03)
