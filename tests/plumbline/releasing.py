"""An open release and votes on it, as the tests of its controller need them; also a controller as a process.

`python -m tests.plumbline.releasing URL HOME` runs the controller until it is killed.
"""

import asyncio
import json
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from core import exposures, keys, releases
from core.exposures import Ended
from core.records import Comparison, Feedback, Target
from core.redis import connect_async
from core.releases import Release
from core.settings import Settings
from plumbline import release as controller
from tests.serving import policies

OWNER = "test"
QUIET = Ended(
    release="",
    arm="candidate",
    share=0.0,
    rater=None,
    failed=False,
    empty=False,
    refuses=False,
    loops=False,
    cut_off=False,
    tokens=20,
    seconds=0.3,
)


def open_release(client: redis.Redis) -> Release:
    """Version 1 against version 0."""
    policies.initialise(client, "sha-0")
    policies.publish(client, "sha-1")
    found = releases.current(client)
    assert found is not None
    return found


def age(client: redis.Redis, release: Release, seconds: float) -> None:
    """As if the release had come to its stage so long ago."""
    record = json.loads(str(client.hget(keys.RELEASES, release.id)))
    client.hset(keys.RELEASES, release.id, json.dumps(record | {"staged": float(record["staged"]) - seconds}))


def vote(client: redis.Redis, release: Release, rater: str | None, value: str, **changes: Any) -> str:
    """A preference on a release comparison of its own, with the candidate as side a; returns its place in the log."""
    number = client.incr("test:votes")
    drawn = {"asked": "release", "release": release.id} | changes.pop("comparison", {})
    versions = [release.version, release.against]
    comparison = Comparison(
        id=f"cmp_{number}",
        created=1.0,
        completion_ids=[f"chatcmpl-{number}-a", f"chatcmpl-{number}-b"],
        policy_versions=versions,
        order=[0, 1],
        **drawn,
    )
    client.hset(keys.comparison(comparison.id), "record", comparison.to_json())
    fields = {"target": Target(type="comparison", id=comparison.id), "kind": "preference", "policy_versions": versions}
    return log(client, rater, value, f"fb_{number}", **(fields | changes))


def thumb(client: redis.Redis, rater: str, value: int, version: int) -> str:
    number = client.incr("test:votes")
    target = Target(type="completion", id=f"chatcmpl-{number}")
    return log(client, rater, value, f"fb_{number}", target=target, kind="thumb", policy_versions=[version])


def log(client: redis.Redis, rater: str | None, value: object, identifier: str, **fields: Any) -> str:
    given = {"id": identifier, "rater": rater, "value": value, "created_at": 1.0, "completion_ids": [], "train": True}
    event = Feedback.model_validate(given | fields)
    return str(client.xadd(keys.FEEDBACK, {"event": event.to_json()}))


def votes(client: redis.Redis, release: Release, values: Iterable[str]) -> None:
    """One vote each of person-0, person-1, …"""
    for number, value in enumerate(values):
        vote(client, release, f"person-{number}", value)


def answers(url: str, client: redis.Redis, count: int, *, batch: int, **signs: bool) -> None:
    """So many answers of the candidate of the open release at its share, each to somebody else; and as many of the
    incumbent as its share is, all healthy."""
    release = releases.current(client)
    assert release is not None
    ended = replace(QUIET, release=release.id, share=release.share)
    others = round(count * (1 - release.share) / release.share)

    async def send() -> None:
        async with connect_async(url) as store:
            both = [replace(ended, **signs)] * count + [replace(ended, arm="incumbent")] * others
            await exposures.add(store, both, replica="test", batch=batch)

    asyncio.run(send())


def main() -> None:
    url, home = sys.argv[1:]
    controller.BATCH = 50  # so that a kill meets a log that is counted in part
    config = Settings(home=Path(home), redis_url=url)
    controller.run(config, threading.Event(), interval_s=0.01)


if __name__ == "__main__":
    main()
