"""What one replica knows of the API keys: the whole table in memory, looked at again every second.

So a request costs no round trip, chat works while Redis is away, and a revoked key is refused on every replica within
two seconds of its revocation (with Redis reachable; a replica that is cut off goes on with what it knew, and says so).
What was read last is kept in a file as well, without which a replica that starts while Redis is away would have to
refuse everybody.
"""

import asyncio
import hmac
import json
import logging
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis.asyncio
from redis.exceptions import RedisError

from core import keys
from core.access import Caller
from core.api_keys import ApiKey, Standing, hashed, key_id, table
from core.errors import Unauthorized, Unavailable
from core.records import now
from core.secret import CHECK_FIELD, check_value

LOOK_EVERY_S = 1.0
LOOK_TIMEOUT_S = 2.0
_NOBODY = "0" * 64
_FOREIGN = "API keys were made with another PLUMBLINE_SECRET than this replica's: it refuses them all"

log = logging.getLogger("plumbline.keys")


class KeyTable:
    """The keys of a deployment, as this process knows them."""

    def __init__(self, client: redis.asyncio.Redis, secret: bytes, remembered: Path) -> None:
        self._client = client
        self._secret = secret
        self._file = remembered
        self._change: str | None = None
        self._known = _remembered(remembered)
        self.away = ""
        """Why the table could not be looked at, or is of no use; empty while all is well."""
        self._foreign = False

    @property
    def known(self) -> dict[str, Standing] | None:
        """By id; None before it was ever read."""
        return self._known

    async def watch(self) -> None:
        """Looks for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Reads the table if it has changed."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                change = await cast(Awaitable[str | None], self._client.get(keys.API_KEYS_CHANGE)) or "0"
                if change != self._change:
                    await self._read(change)
            away = _FOREIGN if self._foreign else ""
        except (RedisError, TimeoutError, OSError) as error:
            away = f"API keys are those of the last look at Redis, which does not answer ({type(error).__name__})"
        if away != self.away:
            log.warning("%s", away or "API keys are up to date again")
        self.away = away

    async def _read(self, change: str) -> None:
        """The counter was read first: a change in between is seen at the next look."""
        async with self._client.pipeline() as pipeline:
            pipeline.hgetall(keys.API_KEYS)
            pipeline.hgetall(keys.API_KEYS_REVOKED)
            pipeline.hget(keys.DEPLOYMENT, CHECK_FIELD)
            records, revoked, check = await pipeline.execute()
        self._foreign = bool(records) and check != check_value(self._secret)
        self._known, self._change = table(records, revoked), change
        _remember(self._file, records, revoked)

    def find(self, token: str) -> Standing | None:
        """The key of this token, if it is good. Takes as long for a wrong token as for a right one."""
        identifier = key_id(token)
        standing = (self._known or {}).get(identifier or "")
        expected = standing.key.hash if standing else _NOBODY
        matches = hmac.compare_digest(hashed(self._secret, token), expected)
        return standing if standing and matches and standing.good(now=now()) else None

    def get(self, identifier: str) -> Standing | None:
        """The key with this id, if it is good."""
        standing = (self._known or {}).get(identifier)
        return standing if standing and standing.good(now=now()) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Doorkeeper:
    """The `core.access.Keeper` of one listener."""

    keys: KeyTable
    exposed: bool
    """Others than this machine can reach the listener: then nobody comes in without a key."""

    @property
    def keys_needed(self) -> bool:
        """On this machine alone a deployment that never had a key is open."""
        return self.exposed or self.keys.known is None or bool(self.keys.known)

    def caller(self, authorization: str) -> Caller:
        """Raises:
        Unauthorized: `invalid_api_key`.
        Unavailable: it is not known yet which keys there are.
        """
        if not self.keys_needed:
            return Caller()
        if self.keys.known is None:
            raise Unavailable("The API keys have not been read yet: Redis is away.", code="keys_unavailable")
        scheme, _, token = authorization.partition(" ")
        found = self.keys.find(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise Unauthorized(_refusal(authorization), code="invalid_api_key")
        return _caller(found.key)

    def issuer(self, key_id: str) -> Caller:
        """Without a key if it was asked for without one; such a receipt is one for the deployment's own answers.

        Raises:
            Unauthorized: the key has expired or was revoked.
        """
        if not key_id:
            return Caller()
        found = self.keys.get(key_id)
        if found is None:
            raise Unauthorized("The API key that this receipt was asked for with is not valid any more.")
        return _caller(found.key)


def _caller(key: ApiKey) -> Caller:
    return Caller(tenant=key.tenant, key_id=key.id, scopes=frozenset(key.scopes), limits=key.limits)


def _refusal(authorization: str) -> str:
    if not authorization:
        return "You didn't provide an API key: send it as `Authorization: Bearer plumb_…`."
    return "This API key is not valid: it is wrong, has expired or was revoked."


def _remembered(file: Path) -> dict[str, Standing] | None:
    try:
        records, revoked = json.loads(file.read_text())
        return table(records, revoked)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s is of no use: %s", file, error)
        return None


def _remember(file: Path, records: dict[str, str], revoked: dict[str, str]) -> None:
    """Hashes, no tokens; for its owner's eyes all the same."""
    fresh = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps([records, revoked]))
        fresh.replace(file)
    except OSError as error:
        log.warning("the API keys could not be kept in %s: %s", file, error.strerror)
