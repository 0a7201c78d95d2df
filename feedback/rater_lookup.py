"""What operators see of raters: who was judged and how, who is in quarantine, by whom and why.

The list names those whom the last round judged and those in quarantine. Any other rater is found by name.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow.compute as pc  # type: ignore[import-untyped]
import redis.asyncio

from core import keys
from core.errors import NotFound
from core.records import RaterEvent, RaterReport, TrustReport
from feedback import scripts, store
from feedback.archive import Archive
from feedback.events import position
from feedback.invitations import Invitation
from feedback.rows import audited_rater
from feedback.scripts import Call

_LOOKED_AT = 250
"""Entries of one script call, about 2 ms: Redis serves nobody else meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterView:
    """One rater as they are now."""

    rater: str
    quarantined: bool
    review: RaterEvent | None
    """The newest quarantine or restoration."""
    report: RaterReport | None
    """What the last round found; None if it did not look at votes of theirs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterHistory:
    """One rater with all that was decided of them."""

    view: RaterView
    consent: RaterEvent | None
    """What they said last."""
    reviews: list[RaterEvent]
    """Every quarantine and restoration, the newest first."""
    invitation: Invitation | None
    """To the page, also one that has come to its end."""
    audited_as: str
    """How the audit trail names them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterPage:
    """Some raters, by name."""

    raters: list[RaterView]
    more: bool


async def page(
    client: redis.asyncio.Redis, *, after: str | None = None, limit: int = 20, quarantined: bool | None = None
) -> RaterPage:
    """The raters behind the name `after`, which need not be there any more; of one state, if that is said.

    Raises:
        Unavailable: Redis is away.
    """
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S), client.pipeline(transaction=False) as pipeline:
            pipeline.smembers(keys.QUARANTINED)
            pipeline.hkeys(keys.TRUST_RATERS)
            aside, judged = await pipeline.execute()
    listed = aside if quarantined else aside | set(judged) if quarantined is None else set(judged) - aside
    names = sorted(name for name in listed if after is None or name > after)
    return RaterPage(raters=await _views(client, names[:limit]), more=len(names) > limit)


async def _views(client: redis.asyncio.Redis, names: Sequence[str]) -> list[RaterView]:
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S), client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.sismember(keys.QUARANTINED, name)
                pipeline.hget(keys.rater(name), "review_event")
                pipeline.hget(keys.TRUST_RATERS, name)
            answers = iter(await pipeline.execute())
    found = zip(names, answers, answers, answers, strict=True)
    return [_view(name, quarantined, review, report) for name, quarantined, review, report in found]


def _view(name: str, quarantined: int, review: str | None, report: str | None) -> RaterView:
    return RaterView(
        rater=name,
        quarantined=bool(quarantined),
        review=None if review is None else RaterEvent.model_validate_json(review),
        report=None if report is None else RaterReport.model_validate_json(report),
    )


async def find(client: redis.asyncio.Redis, rater: str, archive: Archive) -> RaterHistory:
    """One rater.

    Raises:
        NotFound: nobody of that name ever gave feedback, consent or an answer to a task, or is invited.
        UsageError: the archive cannot be read.
        Unavailable: Redis is away.
    """
    await must_exist(client, rater, archive)
    (view,) = await _views(client, [rater])
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            fields = cast(dict[str, str], await client.hgetall(keys.rater(rater)))
            invited = await client.hget(keys.INVITATIONS, rater)
            salt = await store.deployment_salt_async(client)
    places = sorted((name for name in fields if name.startswith("review:")), key=_position, reverse=True)
    consent = fields.get("consent_event")
    return RaterHistory(
        view=view,
        consent=None if consent is None else RaterEvent.model_validate_json(consent),
        reviews=[RaterEvent.model_validate_json(fields[name]) for name in places],
        invitation=None if invited is None else Invitation.model_validate_json(invited),
        audited_as=audited_rater(salt, rater),
    )


def _position(field: str) -> tuple[int, int]:
    return position(field.removeprefix("review:"))


async def trust(client: redis.asyncio.Redis) -> tuple[TrustReport | None, int]:
    """What the last round found of all raters, and how many are in quarantine now.

    Raises:
        Unavailable: Redis is away.
    """
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S), client.pipeline(transaction=False) as pipeline:
            pipeline.get(keys.TRUST)
            pipeline.scard(keys.QUARANTINED)
            report, quarantined = await pipeline.execute()
    return None if report is None else TrustReport.model_validate_json(report), quarantined


# --- who there is ---------------------------------------------------------------------------------------------------


async def must_exist(client: redis.asyncio.Redis, rater: str, archive: Archive) -> None:
    """A name with a typing mistake in it is nobody's. Who is not known otherwise is looked for in the whole log.

    Raises:
        NotFound: as `find`.
        UsageError: the archive cannot be read.
        Unavailable: Redis is away.
    """
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S), client.pipeline(transaction=False) as pipeline:
            pipeline.hexists(keys.TRUST_RATERS, rater)
            pipeline.hexists(keys.INVITATIONS, rater)
            pipeline.exists(keys.rater(rater), keys.task_rater(rater))
            known = any(await pipeline.execute())
    if not (known or await _voted(client, rater, archive)):
        raise NotFound("There is no rater of that name: nobody gave feedback by it.", code="rater_not_found")


async def _voted(client: redis.asyncio.Redis, rater: str, archive: Archive) -> bool:
    newest, trimmed, named = "+", "", json.dumps(rater, ensure_ascii=False)
    while newest:
        call = Call(name="rater_known", keys=[keys.FEEDBACK_TRIMMED], args=[rater, named, newest, _LOOKED_AT])
        found, oldest, trimmed = await scripts.run(client, call)
        if found:
            return True
        newest = f"({oldest}" if oldest else ""
    return bool(trimmed) and await asyncio.to_thread(_is_archived, archive, rater)


def _is_archived(archive: Archive, rater: str) -> bool:
    for partition in reversed(archive.manifest().partitions):
        with archive.open(partition.files["events"]) as file:
            for number in range(file.num_row_groups):
                raters = file.read_row_group(number, columns=["rater"])["rater"]
                if pc.any(pc.equal(raters, rater)).as_py():
                    return True
    return False
