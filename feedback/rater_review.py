"""Sets raters aside and takes them back: events in the log, by people and by the scheduler that judges votes.

What holds is a fold of these events (feedback/events.py `rater_states`); the rater's hash and the set of those in
quarantine are written by the same script, so that nobody has to read a log to show it.
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import redis
import redis.asyncio

from core import keys
from core.errors import InvalidRequest
from core.records import RaterEvent
from core.redis import lua
from feedback import scripts
from feedback.scripts import Call

Action = Literal["quarantine", "restore"]
MAX_REASON = 500
_LUA = Path(__file__).parent / "lua"


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
    return _reviewed(await scripts.run(client, _call(rater, action, said, actor)))


def quarantine(client: redis.Redis, rater: str, *, reason: str, actor: str, seen: str) -> Reviewed:
    """What the scheduler finds (plumbline/trust.py). Nothing is new if a person decided otherwise meanwhile.

    Args:
        seen: where the newest quarantine or restoration of this rater lay in the log that was judged
            (`1790000003200-0`); empty for none.
    """
    call = _call(rater, "quarantine", reason, actor)
    script = client.register_script(lua(_LUA / "common.lua") + lua(_LUA / f"{call.name}.lua"))
    args = [keys.FEEDBACK_INDEX, keys.comparison(""), *call.args, seen]
    return _reviewed(script(keys=[keys.FEEDBACK, *call.keys], args=args))


def _call(rater: str, action: Action, reason: str, actor: str) -> Call:
    said = {"schema": 1, "rater": rater, "action": action, "reason": reason, "actor": actor}
    return Call(
        name="rater_review",
        keys=[keys.rater(rater), keys.QUARANTINED, keys.call(secrets.token_hex(16))],
        args=[rater, action, json.dumps(said, ensure_ascii=False), scripts.RETRY_WINDOW_S],
    )


def _reviewed(answer: Any) -> Reviewed:
    new, quarantined, event = answer
    newest = RaterEvent.model_validate_json(event) if event else None
    return Reviewed(quarantined=bool(quarantined), new=bool(new), event=newest)
