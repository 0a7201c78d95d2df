"""A release as the demo sees it: a crowd chats and votes until the service has decided, and this module watches.

Nothing is commanded here either. Every person of the crowd comes once, under a name of their own: some chat, and are
answered by the candidate as its share has it; the others compare two blind answers and vote, and where the service made
that a comparison of the release, their vote is evidence.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import redis
from pydantic import BaseModel, ConfigDict, Field

from core import audit, evidence, releases
from core.errors import PlumblineError
from core.evidence import Evidence
from core.records import policy_name
from core.releases import Release
from lab.chats import Chats, voted_prompts
from lab.display import Display
from lab.raters import Ballot, Raters
from lab.report import ReleaseFigures, ReleaseStep

_POLL_S = 0.5


class ReleaseConfig(BaseModel):
    """`[demo.release]` in demo.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chatting: int = Field(ge=1)
    """People who chat at a time."""
    voting: int = Field(ge=1)
    """People who compare and vote at a time."""
    timeout_s: float = Field(gt=0)
    """Longest wait for the service to decide."""


async def follow(
    client: redis.Redis,
    release_id: str,
    *,
    chats: Chats,
    raters: Raters,
    display: Display,
    config: ReleaseConfig,
    rng: random.Random,
) -> ReleaseFigures:
    """The crowd comes until the release has ended.

    Raises:
        PlumblineError: a vote was refused, or the service did not decide in time.
    """
    found = releases.release(client, release_id)
    display.say(
        f"Release {found.id}: {policy_name(found.version)} begins with {found.share:.0%} of end users, "
        f"against {policy_name(found.against)}",
        style="bold",
    )
    deadline, stage = time.monotonic() + config.timeout_s, found.stage
    async with _crowd(release_id, chats, raters, config, rng) as has_left:
        while (found := releases.release(client, release_id)).state == "canary":
            if found.stage != stage:
                stage = found.stage
                display.say(f"  {found.share:.0%} of end users: {found.reason}")
            display.bar(_bar(found), stage, len(releases.STAGES), note=_told(evidence.load(client, release_id)))
            if has_left() or time.monotonic() > deadline:
                raise PlumblineError(f"Release {release_id} is still open: {_told(evidence.load(client, release_id))}")
            await asyncio.sleep(_POLL_S)
    display.end(_bar(found))
    display.say(
        f"Release {found.id} {found.state}: {found.reason}", style="green" if found.state == "promoted" else "red"
    )
    return figures(client, found)


def figures(client: redis.Redis, release: Release) -> ReleaseFigures:
    """What the service has written down of a release that has ended."""
    assert release.state != "canary" and release.ended is not None
    known = evidence.load(client, release.id) or Evidence(release=release.id, position="0-0")
    steps = [
        ReleaseStep(what=event.action, after_s=event.at - release.opened, reason=event.reason)
        for event in audit.history(client)
        if event.subject == release.id
    ]
    return ReleaseFigures(
        id=release.id,
        against=release.against,
        state=release.state,
        reason=release.reason,
        seconds=release.ended - release.opened,
        raters=known.raters,
        won=known.wins,
        tied=known.ties,
        lost=known.losses,
        log10_e=known.log10_e,
        steps=steps,
    )


@asynccontextmanager
async def _crowd(
    release_id: str, chats: Chats, raters: Raters, config: ReleaseConfig, rng: random.Random
) -> AsyncIterator[Callable[[], bool]]:
    """People come and go while the body runs, which can ask whether they have all left too early."""
    stop, prompts = asyncio.Event(), voted_prompts(rng)
    names = (f"{release_id}-{number:05}" for number in itertools.count())

    async def chatting() -> None:
        while not stop.is_set():
            await chats.ask(next(prompts), user=next(names))

    async def voting() -> None:
        try:
            while not stop.is_set():
                await raters.compare(next(prompts), next(names), Ballot())
        finally:
            stop.set()

    places = [*(chatting() for _ in range(config.chatting)), *(voting() for _ in range(config.voting))]
    crowd = asyncio.gather(*places)
    try:
        yield crowd.done
    finally:
        stop.set()
        await crowd


def _bar(release: Release) -> str:
    return f"release {release.id}"


def _told(found: Evidence | None) -> str:
    if found is None:
        return "nobody has voted yet"
    return f"{found.wins} won, {found.ties} tied, {found.losses} lost; E = {10**found.log10_e:.2g}"
