"""What raters say of the use of all that they write and vote: events in the log, newest holds."""

import asyncio
import json
import secrets

import redis.asyncio

from core import keys
from core.records import RaterEvent
from feedback import scripts
from feedback.scripts import Call

_ACTOR = "api"


async def give(client: redis.asyncio.Redis, rater: str, *, train: bool) -> tuple[RaterEvent, bool]:
    """Logs a consent, or its withdrawal; and whether it is news. Returns only after the durable write.

    Raises:
        Unavailable: Redis is away, full or read-only, or did not answer within two seconds.
    """
    said = {"schema": 1, "rater": rater, "action": "consent", "train": train, "actor": _ACTOR}
    new, event = await scripts.run(
        client,
        Call(
            name="rater",
            keys=[keys.rater(rater), keys.call(secrets.token_hex(16))],
            args=[json.dumps(said, ensure_ascii=False), "consent", str(train), scripts.RETRY_WINDOW_S],
        ),
    )
    return RaterEvent.model_validate_json(event), bool(new)


async def given(client: redis.asyncio.Redis, rater: str) -> RaterEvent | None:
    """The newest consent of a rater; None if they never said."""
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            event = await client.hget(keys.rater(rater), "consent_event")
    return None if event is None else RaterEvent.model_validate_json(event)
