"""Runs the Lua scripts that change the registry: each change is one script, which compares first, bumps the generation
and appends to the audit trail, and gives the Redis client's silent retry of a call the answer that the call had."""

import secrets
from pathlib import Path
from typing import Any

import redis

from core import audit, keys
from core.redis import script

_LUA = Path(__file__).parent / "lua"
_COMMON = (*audit.APPENDING, _LUA / "registry_common.lua")
_KEYS = (keys.REGISTRY, keys.POLICIES, keys.POLICY_STATES, keys.AUDIT, keys.AUDIT_HEAD, keys.RELEASES)


def run(client: redis.Redis, name: str, *arguments: str | int | float, also: str | None = None) -> Any:
    """Runs core/lua/{name}.lua.

    Args:
        also: the seventh key, if it is not the place where the answer of this call is kept for its retry.
    """
    seventh = also or keys.call(secrets.token_hex(8))
    return script(client, *_COMMON, _LUA / f"{name}.lua")(keys=[*_KEYS, seventh], args=arguments)
