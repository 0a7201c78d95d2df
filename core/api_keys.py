"""API keys: their record, their token, and the table of them in Redis.

A token is `plumb_<12 hex>_<64 hex>`: a prefix that scanners of leaked secrets can look for, the key's id, and 256
random bits. It is shown once; what is kept is its HMAC-SHA256 under the deployment's secret. A slow hash would add
nothing: nobody guesses 256 bits.

A key is made and revoked, never changed or deleted: what an audit or a usage report names stays known, and a
deployment that ever had keys does not fall open when the last one is revoked.
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis
from pydantic import Field, ValidationError

from core import audit, keys
from core.access import DEPLOYMENT, TENANT, Limits, Scope
from core.errors import UsageError
from core.records import Record, now
from core.redis import script

_LUA = Path(__file__).parent / "lua"
_TOKEN = re.compile(r"plumb_([0-9a-f]{12})_[0-9a-f]{64}")
MAX_NAME = 100


class ApiKey(Record):
    """One key, without what moves.

    Example:
        ApiKey(id="key_9f86d081884c", name="web shop", tenant="acme", scopes=["chat", "feedback"], hash="5d41…",
            limits=Limits(requests_per_minute=600), created=1790000000.0, expires=None, actor="cli:ann")
    """

    id: str
    name: str = Field(min_length=1, max_length=MAX_NAME)
    """For people."""
    tenant: str = Field(DEPLOYMENT, pattern=rf"^({TENANT.pattern})?$")
    scopes: list[Scope] = Field(min_length=1)
    hash: str
    limits: Limits = Limits()
    created: float
    """Clock of who made it."""
    expires: float | None = None
    """From then on it is refused, on each replica's clock."""
    actor: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A key as it stands now."""

    key: ApiKey
    revoked: float | None
    """When; Redis's clock."""

    def good(self, *, now: float) -> bool:
        return self.revoked is None and (self.key.expires is None or now < self.key.expires)


def mint(
    secret: bytes,
    *,
    name: str,
    scopes: list[Scope],
    actor: str,
    tenant: str = DEPLOYMENT,
    limits: Limits | None = None,
    expires: float | None = None,
) -> tuple[str, ApiKey]:
    """A fresh token and its record, which is not stored yet.

    Raises:
        UsageError: a field is not as `ApiKey` says.
    """
    token = f"plumb_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
    try:
        key = ApiKey(
            id=key_id(token) or "",
            name=name,
            tenant=tenant,
            scopes=sorted(set(scopes)),
            hash=hashed(secret, token),
            limits=limits or Limits(),
            created=now(),
            expires=expires,
            actor=actor,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"The key's {first['loc'][0]}: {first['msg']}.") from None
    return token, key


def key_id(token: str) -> str | None:
    """`key_id("plumb_9f86d081884c_…") == "key_9f86d081884c"`; None if it is no token of ours."""
    found = _TOKEN.fullmatch(token)
    return f"key_{found[1]}" if found else None


def hashed(secret: bytes, token: str) -> str:
    return hmac.digest(secret, token.encode(), "sha256").hex()


# --- the table --------------------------------------------------------------------------------------------------------


def create(client: redis.Redis, key: ApiKey) -> None:
    """Stores a key and tells the audit. Every replica takes it within two seconds."""
    said = f"{key.name}: {', '.join(key.scopes)}" + (f", tenant {key.tenant}" if key.tenant else "")
    _change(client, "create", key.id, key.to_json(), key.actor, said)


def revoke(client: redis.Redis, key: str, *, actor: str, reason: str) -> bool:
    """Revokes a key and tells the audit; False if it was revoked before. Every replica refuses it within two seconds.

    Raises:
        UsageError: there is no such key.
    """
    outcome = _change(client, "revoke", key, "", actor, reason)
    if outcome == "unknown":
        raise UsageError(f"There is no key {key!r}; `plumbline keys list` shows all.")
    return outcome == "done"


def _change(client: redis.Redis, action: str, key: str, record: str, actor: str, reason: str) -> str:
    used = [keys.API_KEYS, keys.API_KEYS_REVOKED, keys.API_KEYS_CHANGE, keys.AUDIT, keys.AUDIT_HEAD, keys.REGISTRY]
    used.append(keys.call(secrets.token_hex(16)))
    change = script(client, *audit.APPENDING, _LUA / "key_change.lua")
    return cast(str, change(keys=used, args=[action, key, record, actor, reason]))


def table(records: dict[str, str], revoked: dict[str, str]) -> dict[str, Standing]:
    """The two hashes, read."""
    return {
        key: Standing(key=ApiKey.model_validate_json(record), revoked=float(revoked[key]) if key in revoked else None)
        for key, record in records.items()
    }


def all_keys(client: redis.Redis) -> list[Standing]:
    """Every key that ever was, oldest first."""
    records = cast(dict[str, str], client.hgetall(keys.API_KEYS))
    revoked = cast(dict[str, str], client.hgetall(keys.API_KEYS_REVOKED))
    return sorted(table(records, revoked).values(), key=lambda it: it.key.created)
