"""The registry of policy versions: which exist, which one is live, and who changed that.

Exactly one version is live, and at most one is on its way there (core/releases.py). The generation only grows; each
change is one Lua script that compares first and writes its audit event itself, so no change can be half done or go
unrecorded. Version 0 is the base (an all-zero adapter).
"""

import json
from collections.abc import Sequence
from typing import cast

import redis
import redis.asyncio

from core import keys, registry_scripts, releases
from core.errors import Conflict, UsageError
from core.records import (
    GateReport,
    PolicyState,
    PolicyVersion,
    RegistryState,
)


def state(client: redis.Redis) -> RegistryState | None:
    """What is live now; None before version 0 was registered."""
    fields = client.hgetall(keys.REGISTRY)
    return RegistryState.model_validate(fields) if fields else None


def policies(client: redis.Redis) -> list[PolicyVersion]:
    """All versions, oldest first."""
    pipeline = client.pipeline()
    pipeline.hgetall(keys.POLICIES)
    pipeline.hgetall(keys.POLICY_STATES)
    records, states = pipeline.execute()
    return [_policy(records[version], states[version]) for version in sorted(records, key=int)]


def policy(client: redis.Redis, version: int) -> PolicyVersion:
    """One version.

    Raises:
        UsageError: there is no such version.
    """
    record = cast(str | None, client.hget(keys.POLICIES, str(version)))
    current = cast(str | None, client.hget(keys.POLICY_STATES, str(version)))
    if record is None or current is None:
        raise UsageError(f"There is no policy version {version}; `plumbline policies list` shows those that exist.")
    return _policy(record, current)


async def states(client: redis.asyncio.Redis) -> dict[int, PolicyState]:
    """The state of each version."""
    found = cast(dict[str, str], await client.hgetall(keys.POLICY_STATES))
    return {int(version): PolicyState(state) for version, state in found.items()}


async def snapshots_of(client: redis.asyncio.Redis, versions: Sequence[int]) -> dict[int, str | None]:
    """The snapshot that each of these versions was trained on, which never changes; None of version 0."""
    if not versions:
        return {}
    records = await client.hmget(keys.POLICIES, [str(version) for version in versions])
    found = zip(versions, cast(list[str | None], records), strict=True)
    return {version: json.loads(record).get("snapshot") for version, record in found if record is not None}


def initialise(client: redis.Redis, zero: PolicyVersion, *, actor: str) -> bool:
    """Registers version 0 and makes it live. Doing it again changes nothing and returns False."""
    assert zero.version == 0 and zero.parent is None
    return bool(registry_scripts.run(client, "registry_init", _bare(zero, keep_version=True), actor))


def publish(
    client: redis.Redis,
    candidate: PolicyVersion,
    gate: GateReport,
    *,
    run: str,
    attempt: int,
    stage: int = releases.FIRST,
) -> int:
    """Ends a run: registers its candidate, opens its release if the gate passed, commits the run; all or nothing. If
    another release is open, the candidate stays one until that is over (`waiting`).

    `candidate.version` and `.state` are ignored: the registry gives them. A second call for the same run returns the
    version of the first.

    Args:
        stage: at which its release begins, `releases.SHADOW` or `releases.FIRST`.

    Raises:
        Conflict: another attempt holds the run, or the live version is no longer the one the gate compared with.
    """
    outcome, version = registry_scripts.run(
        client,
        "registry_publish",
        _bare(candidate),
        gate.verdict,
        run,
        attempt,
        gate.live_version,
        gate.summary,
        stage,
        releases.STAGES[stage],
        releases.ALPHA,
        also=keys.run(run),
    )
    if outcome == "stale":
        raise Conflict(f"attempt {attempt} no longer holds run {run}")
    if outcome == "conflict":
        raise Conflict(f"version {version} went live while the gate compared with version {gate.live_version}")
    return int(version)


def waiting(client: redis.Redis) -> PolicyVersion | None:
    """The newest candidate without a release whose gate compared it with the version that is live now."""
    held = cast(dict[str, str], client.hgetall(keys.POLICY_STATES))
    candidates = sorted((int(version) for version, it in held.items() if it == PolicyState.CANDIDATE), reverse=True)
    current = state(client) if candidates else None
    for version in candidates if current else []:
        found = policy(client, version)
        if found.gate is not None and current and found.gate.live_version == current.live:
            return found
    return None


def promote(client: redis.Redis, version: int, *, actor: str, reason: str) -> int:
    """Makes any version live because a person says so, and stops the open release. Returns what was live.

    Raises:
        UsageError: there is no such version, or it is live.
        Conflict: somebody changed the registry in the same moment.
    """
    current = _state(client)
    outcome, _ = registry_scripts.run(client, "registry_promote", current.generation, version, actor, reason)
    if outcome == "unknown":
        raise UsageError(f"There is no policy version {version}; `plumbline policies list` shows those that exist.")
    if outcome == "live":
        raise UsageError(f"Version {version} is live already.")
    if outcome == "conflict":
        raise Conflict("the registry changed at the same moment; look again and repeat")
    return current.live


def rollback(client: redis.Redis, *, actor: str, reason: str) -> int:
    """Makes the live version's parent live and returns it, and stops the open release. Takes effect on every replica
    without a restart.

    Raises:
        UsageError: version 0 is live, there is nothing below it.
        Conflict: somebody changed the registry in the same moment.
    """
    outcome, version = registry_scripts.run(client, "registry_rollback", _state(client).generation, actor, reason)
    if outcome == "bottom":
        raise UsageError("Version 0 is live: it is the base itself and has no parent to roll back to.")
    if outcome == "conflict":
        raise Conflict("the registry changed at the same moment; look again and repeat")
    return int(version)


def taint(client: redis.Redis, versions: Sequence[int], *, at: float) -> None:
    """Marks versions that were trained on data that has been erased; the first time stays."""
    for version in versions:
        client.hsetnx(keys.TAINTED, str(version), str(at))


def tainted(client: redis.Redis) -> dict[int, float]:
    """Versions with something erased in them, and since when: those that are marked, and those that descend from them,
    as training starts from the parent's adapter."""
    marked = {int(version): float(at) for version, at in cast(dict[str, str], client.hgetall(keys.TAINTED)).items()}
    found: dict[int, float] = {}
    for known in policies(client) if marked else []:  # a parent comes before its children
        times = [at for at in (marked.get(known.version), found.get(known.parent or 0)) if at is not None]
        if times:
            found[known.version] = min(times)
    return found


def _state(client: redis.Redis) -> RegistryState:
    found = state(client)
    if found is None:
        raise UsageError("There is no policy yet: start the stack with `plumbline up` first.")
    return found


def _policy(record: str, current: str) -> PolicyVersion:
    return PolicyVersion.model_validate_json(record[:-1] + f',"state":"{PolicyState(current)}"}}')


def _bare(version: PolicyVersion, *, keep_version: bool = False) -> str:
    """The record without its state (which moves) and, for new ones, without its number (which the script gives)."""
    exclude = {"state"} if keep_version else {"state", "version"}
    return version.model_dump_json(by_alias=True, exclude=exclude)
