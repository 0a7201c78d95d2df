"""Policies and snapshots, as rounds leave them."""

from pathlib import Path

import redis

from core import keys, registry, releases
from core.records import GateReport, PolicyState, PolicyVersion, Verdict
from feedback.cut import cut_snapshot
from feedback.snapshot import Snapshot


def policy(version: int, parent: int | None, **given: object) -> PolicyVersion:
    """A candidate; without a parent, version 0."""
    fields = {
        "version": version,
        "parent": parent,
        "base_sha256": "b",
        "adapter_sha256": f"{version:064d}",
        "method": "zero" if parent is None else "dpo",
        "created": 1.0,
        "state": PolicyState.CANDIDATE,
    }
    return PolicyVersion.model_validate(fields | given)


def publish(client: redis.Redis, candidate: PolicyVersion, *, verdict: Verdict = Verdict.PASS) -> int:
    """What the end of a run does, and the end of its release; returns the version that it got."""
    live = registry.state(client).live
    client.hset(keys.run("r"), mapping={"state": "running", "attempt": 1})
    client.hdel(keys.run("r"), "version")
    gate = GateReport(verdict=verdict, live_version=live, checks=[], summary="s")
    version = registry.publish(client, candidate, gate, run="r", attempt=1)
    if verdict is Verdict.PASS:
        releases.promote(client, f"rel_{version}", reason="test", actor="test")
    return version


def cut(client: redis.Redis, artifacts: Path, **given: object) -> Snapshot:
    return cut_snapshot(client, artifacts, salt=b"s", base_sha256="b", tokenizer_sha256="t", **given)
