"""Sets raters aside and takes them back: events in the log, by people and by the scheduler that judges votes.

What holds is a fold of these events (feedback/events.py `rater_states`); the rater's hash and the set of those in
quarantine are written by the same script, so that nobody has to read a log to show it, and so is the audit trail.
"""

import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import redis
import redis.asyncio

from core import audit, keys
from core.errors import InvalidRequest
from core.records import RaterEvent
from core.redis import script
from feedback import scripts, store
from feedback.rows import audited_rater

Action = Literal["quarantine", "restore"]
MAX_REASON = 500
_LUA = Path(__file__).parent / "lua"
SCRIPT = (*audit.APPENDING, _LUA / "common.lua", _LUA / "rater_review.lua")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reviewed:
    """What holds of a rater now."""

    quarantined: bool
    new: bool
    """False: it was so before."""
    event: RaterEvent | None
    """The newest quarantine or restoration; None if there never was one."""


async def review(client: redis.asyncio.Redis, rater: str, action: Action, *, reason: str, actor: str) -> Reviewed:
    """What a person decides of a rater. Returns only after the durable write.

    Raises:
        InvalidRequest: there is no reason, or it is too long.
        Unavailable: Redis is away, full or read-only, or did not answer within two seconds.
    """
    said = reason.strip()
    if not 1 <= len(said) <= MAX_REASON:
        raise InvalidRequest(f"A reason has 1 to {MAX_REASON} characters.", param="reason")
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            subject = audited_rater(await store.deployment_salt_async(client), rater)
            args = _args(rater, action, said, actor=actor, audited=[actor, subject])
            return _reviewed(await script(client, *SCRIPT)(keys=_keys(rater), args=args))


def quarantine(client: redis.Redis, rater: str, *, reason: str, actor: str, seen: str) -> Reviewed:
    """What the scheduler finds (plumbline/trust.py). Nothing is new if a person decided otherwise meanwhile.

    Args:
        seen: where the newest quarantine or restoration of this rater lay in the log that was judged
            (`1790000003200-0`); empty for none.
    """
    subject = audited_rater(store.deployment_salt(client), rater)
    args = _args(rater, "quarantine", reason, actor=actor, audited=["scheduler", subject])
    return _reviewed(script(client, *SCRIPT)(keys=_keys(rater), args=[*args, seen]))


def _keys(rater: str) -> list[str]:
    used = [keys.FEEDBACK, keys.rater(rater), keys.QUARANTINED, keys.call(secrets.token_hex(16))]
    return [*used, keys.REGISTRY, keys.AUDIT, keys.AUDIT_HEAD]


def _args(rater: str, action: Action, reason: str, *, actor: str, audited: list[str]) -> list[str | int]:
    """Args: `audited`: who acts and on whom, as the audit trail names them."""
    said = {"schema": 1, "rater": rater, "action": action, "reason": reason, "actor": actor}
    event = json.dumps(said, ensure_ascii=False)
    given: list[str | int] = [rater, action, event, scripts.RETRY_WINDOW_S, reason, *audited]
    return [keys.FEEDBACK_INDEX, keys.comparison(""), *given]


def _reviewed(answer: Any) -> Reviewed:
    new, quarantined, event = answer
    newest = RaterEvent.model_validate_json(event) if event else None
    return Reviewed(quarantined=bool(quarantined), new=bool(new), event=newest)
