"""The registry as a training round leaves it: versions registered, released and promoted in one line."""

import secrets

import redis

from core import keys, registry, releases
from core.records import GateReport, PolicyState, PolicyVersion, Verdict, now


def initialise(client: redis.Redis, sha256: str) -> None:
    """Version 0, live."""
    registry.initialise(client, _version(sha256), actor="test")


def publish(client: redis.Redis, sha256: str, *, stage: int = releases.FIRST) -> int:
    """Ends a made-up run whose gate passed; returns the version, whose release is open from now on."""
    state = registry.state(client)
    assert state is not None
    run = secrets.token_hex(8)
    client.hset(keys.run(run), mapping={"state": "running", "attempt": 1})
    gate = GateReport(verdict=Verdict.PASS, live_version=state.live, checks=[], summary="test")
    candidate = _version(sha256).model_copy(update={"parent": state.live, "method": "dpo", "run": run})
    return registry.publish(client, candidate, gate, run=run, attempt=1, stage=stage)


def promote(client: redis.Redis, sha256: str) -> int:
    """The same with the release at its end; returns the version, which is live from now on."""
    version = publish(client, sha256)
    releases.promote(client, f"rel_{version}", reason="test", actor="test")
    return version


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
