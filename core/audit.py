"""The audit trail: who changed what and why, in a stream that is only ever appended to.

Each entry holds the SHA-256 of itself and of the one before, so that an entry that was edited, dropped or moved is
found. The hash is computed in Lua (core/lua/audit.lua), in the same script as the change that the entry tells of: a
writer outside would have to compare-and-set the end of the chain, and every change of the registry with it.

Who can write to Redis can also write the whole chain anew. Against that helps a copy of its last hash elsewhere:
`verify` can be told that this hash must stand in it.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis

from core import keys
from core.records import AuditEvent
from core.redis import script

_LUA = Path(__file__).parent / "lua"
APPENDING = (_LUA / "sha256.lua", _LUA / "audit.lua")
"""What a script puts before its own Lua to append in the same step as it changes something."""
_FIRST = "0" * 64

Entry = tuple[str, dict[str, str]]
"""As it lies in the stream: its id and its fields, in their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a look at the whole chain found."""

    entries: int
    """That are chained and whole, from the first on."""
    head: str
    """Hash of the last of them."""
    unchained: int
    """Entries before the first that is chained: of a Plumbline that did not chain them yet."""
    fault: str
    """The first thing that is wrong; empty if all is as it was written."""


def append(client: redis.Redis, action: str, *, actor: str, reason: str) -> None:
    """Tells of an act that is done elsewhere than in this Redis; to be called before it, so that none goes untold."""
    used = [keys.REGISTRY, keys.AUDIT, keys.AUDIT_HEAD, keys.call(secrets.token_hex(16))]
    script(client, *APPENDING, _LUA / "audit_append.lua")(keys=used, args=[action, actor, reason])


def history(client: redis.Redis) -> list[AuditEvent]:
    """Every entry, oldest first."""
    return [AuditEvent.model_validate({"id": entry, **fields}) for entry, fields in _read(client)]


def check(client: redis.Redis, *, expected: str | None = None) -> Verified:
    """Reads the whole trail and verifies it; see `verify`."""
    head = cast(dict[str, str], client.hgetall(keys.AUDIT_HEAD))  # first: what is appended meanwhile is no fault
    entries = _read(client)
    return verify(entries, head=head.get("sha256", ""), count=int(head.get("entries", 0)), expected=expected)


def verify(entries: Sequence[Entry], *, head: str, count: int, expected: str | None = None) -> Verified:
    """Follows the chain from the first entry.

    Args:
        head: the hash that the end of the chain had when it was written, or an entry before the end.
        count: how many chained entries there were then.
        expected: a hash that was noted elsewhere; it must stand in the chain.
    """
    unchained = next((place for place, (_, fields) in enumerate(entries) if "sha256" in fields), len(entries))
    hashes = [_FIRST]
    fault = ""
    for entry, fields in entries[unchained:]:
        fault = _fault(entry, fields, hashes[-1])
        if fault:
            break
        hashes.append(fields["sha256"])
    if not fault and (len(hashes) <= count or hashes[count] != (head or _FIRST) or (len(hashes) > 1 and not count)):
        fault = f"the end is another one: {count} entries were written, {len(hashes) - 1} are here"
    if not fault and expected is not None and expected not in hashes[1:]:
        fault = f"no entry has the hash {expected}: the chain was written anew, or is another"
    return Verified(entries=len(hashes) - 1, head=hashes[-1], unchained=unchained, fault=fault)


def _fault(entry: str, fields: dict[str, str], previous: str) -> str:
    told = "".join(f"{len(text.encode())}:{text}" for name, value in fields.items() if name != "sha256"
                   for text in (name, value))  # fmt: skip
    if fields.get("sha256") != hashlib.sha256(told.encode()).hexdigest():
        return f"entry {entry} was edited: it does not have the hash that it was written with"
    if fields.get("previous") != previous:
        return f"entry {entry} does not follow the one before it: entries were dropped, added or moved there"
    return ""


def _read(client: redis.Redis) -> list[Entry]:
    return cast(list[Entry], client.xrange(keys.AUDIT))
