"""Invitations to the page: which of its visitors the operator knows, as raters of names that the operator chose.

A link carries the session that it gives (core/sessions.py), signed with a key for this one purpose; a browser exchanges
it for its own (plumbline/page_sessions.py). The signature does not suffice: the invitation must stand in Redis, where
a rater has one at most. So a newer invitation, a dismissal and an erasure end the link and every session that came of
it, at the next request. The token stands behind the `#` of the link, where no server sees or logs it.
"""

import asyncio
import hmac
import re
import secrets
from pathlib import Path
from typing import cast

import redis
import redis.asyncio

from core import audit, keys, sessions
from core.errors import InvalidRequest, Unavailable
from core.records import Record, now
from core.redis import script
from core.sessions import Session
from feedback import scripts, store
from feedback.rows import audited_rater

MAX_DAYS = 365
_NAME = re.compile(r"(?!web-|key_)[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
"""Neither an anonymous visitor's, nor whom a key without a name is credited to, an AI's (`ai:…`) or another tenant's
(`@tenant/…`)."""
_LUA = Path(__file__).parent / "lua"


class Invitation(Record):
    """One that stands, or has come to its end.

    Example:
        Invitation(id="9f86d081884c7d659a2feaa0c55ad015", rater="ann", created=1790000000.0, expires=1792592000,
            actor="cli:bob")
    """

    id: str
    rater: str
    created: float
    """Clock of who made it, as the end."""
    expires: int
    actor: str


def signing_key(secret: bytes) -> bytes:
    """What a deployment signs its invitations with."""
    return hmac.digest(secret, b"plumbline invitations", "sha256")


def link(key: bytes, it: Invitation) -> str:
    """What comes behind the address of the page: `/tasks#invitation=s2.YW5u.1792592000.9f86….5d41…`."""
    session = Session(rater=it.rater, expires=it.expires, invitation=it.id)
    return f"/tasks#invitation={sessions.token(key, session)}"


def invite(client: redis.Redis, rater: str, *, days: int, actor: str) -> Invitation:
    """Invites a rater, tells the audit, and ends an earlier invitation of theirs.

    Raises:
        InvalidRequest: nobody may be called that.
    """
    if not _NAME.fullmatch(rater):
        said = "1 to 128 letters, digits and . _ @ + -, a letter or digit first, and neither web-… nor key_…"
        raise InvalidRequest(f"A rater who is invited has a name of {said}.", param="rater")
    created = now()
    it = Invitation(
        id=secrets.token_hex(16), rater=rater, created=created, expires=int(created) + days * 86400, actor=actor
    )
    _change(client, "invite", it.rater, it.to_json(), actor, f"for {days} days")
    return it


def dismiss(client: redis.Redis, rater: str, *, actor: str, reason: str) -> bool:
    """Ends an invitation and tells the audit; False if there is none."""
    return _change(client, "dismiss", rater, "", actor, reason)


def _change(client: redis.Redis, action: str, rater: str, record: str, actor: str, reason: str) -> bool:
    used = [keys.INVITATIONS, keys.REGISTRY, keys.AUDIT, keys.AUDIT_HEAD, keys.call(secrets.token_hex(16))]
    change = script(client, *audit.APPENDING, _LUA / "invitation.lua")
    subject = audited_rater(store.deployment_salt(client), rater)
    return bool(change(keys=used, args=[action, rater, record, actor, reason, subject]))


def standing(client: redis.Redis) -> list[Invitation]:
    """Those that have not come to their end, by rater."""
    held = cast(dict[str, str], client.hgetall(keys.INVITATIONS))
    known = [Invitation.model_validate_json(held[rater]) for rater in sorted(held)]
    return [it for it in known if now() < it.expires]


async def stands(client: redis.asyncio.Redis, session: Session) -> bool | None:
    """Whether a session's invitation is the one that its rater has; None while Redis is away. The session itself knows
    its end."""
    try:
        with scripts.unavailable_when_away():
            async with asyncio.timeout(scripts.TIMEOUT_S):
                held = await client.hget(keys.INVITATIONS, session.rater)
    except Unavailable:
        return None
    return held is not None and Invitation.model_validate_json(held).id == session.invitation
