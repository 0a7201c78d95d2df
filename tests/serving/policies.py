"""The registry as a training round leaves it: versions registered and promoted in one line."""

import secrets

import redis

from core import keys, registry
from core.records import GateReport, PolicyState, PolicyVersion, Verdict, now


def initialise(client: redis.Redis, sha256: str) -> None:
    """Version 0, live."""
    registry.initialise(client, _version(sha256), actor="test")


def promote(client: redis.Redis, sha256: str) -> int:
    """Ends a made-up run whose gate passed; returns the version, which is live from now on."""
    state = registry.state(client)
    assert state is not None
    run = secrets.token_hex(8)
    client.hset(keys.run(run), mapping={"state": "running", "attempt": 1})
    gate = GateReport(verdict=Verdict.PASS, live_version=state.live, checks=[], summary="test")
    candidate = _version(sha256).model_copy(update={"parent": state.live, "method": "dpo", "run": run})
    return registry.publish(client, candidate, gate, run=run, attempt=1)


def _version(sha256: str) -> PolicyVersion:
    return PolicyVersion(
        version=0,
        parent=None,
        base_sha256="unused",
        adapter_sha256=sha256,
        method="zero",
        created=now(),
        state=PolicyState.LIVE,
    )
