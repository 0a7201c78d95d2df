"""What ended in each arm of a release, counted: written by the replicas, read by the scheduler's guardrails.

Counts only; of people there is a HyperLogLog, from which nobody can be read. People differ, and at a small share a few
of them are all of an arm: so of one person only the first four completions in an arm are counted for what is rare in
health, and only the first for what depends on who asks (length, time). Who gives no id is a new person each time. Once
so many people were seen that the HyperLogLog cannot tell every new one from an old one, some are left out at random.
"""

import json
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import redis
import redis.asyncio

from core import keys
from core.redis import script

Arm = Literal["candidate", "incumbent"]
TOKENS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Edges between lengths of an answer."""
SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Edges between times from the request to the end of its answer."""
COUNTED_EACH = 4
"""Completions of one person in one arm."""
KEPT_S = 90 * 24 * 3600
_LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """One completion of an open release that ended: `Ended(release="rel_7", arm="candidate", share=0.1, rater="user-7",
    failed=False, empty=False, refuses=False, loops=False, cut_off=True, tokens=64, seconds=1.31)`."""

    release: str
    arm: Arm
    share: float
    """Of end users whom the candidate answered then."""
    rater: str | None
    failed: bool
    empty: bool
    refuses: bool
    loops: bool
    cut_off: bool
    """At the limit of tokens."""
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """One arm of a release so far."""

    staged: int = 0
    """Completions at the present share; all that follows is of the whole release."""
    people: int = 0
    """With an id, at the present share (within 1 %)."""
    completions: int = 0
    """The first four of each person, as the next four lines."""
    failed: int = 0
    empty: int = 0
    refuses: int = 0
    loops: int = 0
    firsts: int = 0
    """The first of each person, as the next three lines."""
    cut_off: int = 0
    tokens: tuple[int, ...] = (0,) * (len(TOKENS) + 1)
    """By length: up to the first edge, between the edges, above the last."""
    seconds: tuple[int, ...] = (0,) * (len(SECONDS) + 1)


async def add(client: redis.asyncio.Redis, ended: Sequence[Ended], *, replica: str, batch: int) -> None:
    """Counts completions of one release. `batch` grows with each call of this replica, and a batch is counted once
    however often it is sent."""
    assert len({it.release for it in ended}) == 1
    release_id = ended[0].release
    items = [_counts(it) for it in ended]
    names = [keys.release_exposure(release_id), keys.release_people(release_id)]
    await script(client, _LUA / "exposure_add.lua")(
        keys=names, args=[replica, batch, json.dumps(items), COUNTED_EACH, KEPT_S]
    )


def _counts(ended: Ended) -> dict[str, object]:
    """What the script adds: fields of every completion, of those that are counted, and of a person's first one."""
    each = [name for name in ("failed", "empty", "refuses", "loops") if getattr(ended, name)]
    first = ["cut_off"] if ended.cut_off else []
    first += [f"tokens:{bisect(TOKENS, ended.tokens - 1)}", f"seconds:{bisect(SECONDS, ended.seconds)}"]
    return {
        "arm": ended.arm,
        "share": str(ended.share),
        "rater": ended.rater or "",
        "each": ["completions", *each],
        "first": ["firsts", *first],
    }


def read(client: redis.Redis, release_id: str, *, share: float) -> dict[Arm, Exposure]:
    """Both arms, at that share."""
    arms: tuple[Arm, ...] = ("candidate", "incumbent")
    people = keys.release_people(release_id)
    pipeline = client.pipeline(transaction=False)
    pipeline.hgetall(keys.release_exposure(release_id))
    for arm in arms:
        pipeline.pfcount(f"{people}:{share}:{arm}")
    counts, *seen = pipeline.execute()
    found = cast(Mapping[str, str], counts)
    return {arm: _exposure(found, arm, share, people) for arm, people in zip(arms, seen, strict=True)}


def _exposure(counts: Mapping[str, str], arm: Arm, share: float, people: int) -> Exposure:
    def count(name: str) -> int:
        return int(counts.get(f"{arm}:{name}", 0))

    return Exposure(
        staged=count(f"share:{share}"),
        people=people,
        completions=count("completions"),
        failed=count("failed"),
        empty=count("empty"),
        refuses=count("refuses"),
        loops=count("loops"),
        firsts=count("firsts"),
        cut_off=count("cut_off"),
        tokens=tuple(count(f"tokens:{place}") for place in range(len(TOKENS) + 1)),
        seconds=tuple(count(f"seconds:{place}") for place in range(len(SECONDS) + 1)),
    )
