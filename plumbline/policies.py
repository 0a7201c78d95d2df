"""What operators look at before they decide: where a version comes from, and how two versions differ.

Read from the registry, the runs and the snapshots' manifests; what is not on this machine is left out, not guessed.
"""

import json
from pathlib import Path

import redis

from core import registry
from core.errors import UsageError
from core.records import PolicyState, PolicyVersion, Record, SnapshotManifest
from feedback.head_to_head import HeadToHead
from feedback.snapshot import read_manifest
from training import runs


class Votes(Record):
    """What a snapshot holds: `Votes(snapshot="5d41402a…", until="1790000099-0", raters=61, rows={"pairs": 512})`."""

    snapshot: str
    until: str
    """Stream id of the newest event that it looked at."""
    raters: int
    rows: dict[str, int]
    """By kind; kinds without any are left out."""
    dropped: dict[str, int]
    """Votes that gave no row, by reason."""
    erased: float | None = None


class Step(Record):
    """One version on the way from version 0, and what it learned from."""

    version: int
    state: PolicyState
    method: str
    run: str | None
    created: float
    votes: Votes | None
    """None of version 0, and where the manifest is not on this machine."""
    tainted: float | None = None
    """Since when something that was erased is in it, by itself or by descent."""


class Change(Record):
    """One thing in which two versions differ: `Change(name="dpo.beta", before="0.1", after="0.3")`."""

    name: str
    before: str
    """Empty where there is none, as `after`."""
    after: str


class Difference(Record):
    """How version `after` differs from version `before`."""

    before: int
    after: int
    path: list[int]
    """From the one to the other over the youngest version that both descend from: `[4, 2, 3]`."""
    gate: list[Change]
    """What their gates measured, each against the version that was live then: win rates, KL, lengths."""
    recipe: list[Change]
    """Of their runs; only what is not the same."""
    snapshot: list[Change]
    """What their snapshots hold; only what is not the same."""
    people: HeadToHead
    """What people say who compared answers of both."""


def lineage(client: redis.Redis, artifacts: Path, version: int) -> list[Step]:
    """The version, its parent, and so on to version 0.

    Raises:
        UsageError: there is no such version.
    """
    known = _known(client)
    _must_exist(known, version)
    tainted = registry.tainted(client)
    return [
        Step(
            version=each.version,
            state=each.state,
            method=each.method,
            run=each.run,
            created=each.created,
            votes=_votes(artifacts, each),
            tainted=tainted.get(each.version),
        )
        for each in _ancestry(known, version)
    ]


def difference(client: redis.Redis, artifacts: Path, people: HeadToHead) -> Difference:
    """Of two versions, in whatever order they came.

    Args:
        people: what they say of these two (feedback/head_to_head.py).

    Raises:
        UsageError: one of them does not exist.
    """
    known, before, after = _known(client), people.before, people.after
    for version in (before, after):
        _must_exist(known, version)
    old, new = known[before], known[after]
    return Difference(
        before=before,
        after=after,
        path=_path(known, before, after),
        gate=_changes(_measured(old), _measured(new), equal_too=True),
        recipe=_changes(_recipe(client, old), _recipe(client, new)),
        snapshot=_changes(_held(artifacts, old), _held(artifacts, new)),
        people=people,
    )


def _known(client: redis.Redis) -> dict[int, PolicyVersion]:
    return {policy.version: policy for policy in registry.policies(client)}


def _must_exist(known: dict[int, PolicyVersion], version: int) -> None:
    if version not in known:
        raise UsageError(f"There is no policy version {version}; `plumbline policies list` shows those that exist.")


def _ancestry(known: dict[int, PolicyVersion], version: int) -> list[PolicyVersion]:
    found = [known[version]]
    while (parent := found[-1].parent) is not None:
        found.append(known[parent])
    return found


def _path(known: dict[int, PolicyVersion], before: int, after: int) -> list[int]:
    up = [each.version for each in _ancestry(known, before)]
    down = [each.version for each in _ancestry(known, after)]
    shared = next(version for version in up if version in down)  # version 0 at the latest
    return [*up[: up.index(shared) + 1], *reversed(down[: down.index(shared)])]


def _manifest(artifacts: Path, policy: PolicyVersion) -> SnapshotManifest | None:
    try:
        return read_manifest(artifacts / "snapshots" / policy.snapshot) if policy.snapshot else None
    except UsageError:
        return None


def _rows(manifest: SnapshotManifest) -> dict[str, int]:
    folds = {f"pairs.{fold}": count for fold, count in manifest.rows_by_fold.items()}
    kinds = {"pairs": manifest.rows, "thumbs": manifest.thumbs, "rankings": manifest.rankings}
    kinds |= {"ratings": manifest.ratings, "demonstrations": manifest.demonstrations, "prompts": manifest.prompts}
    return {name: count for name, count in (kinds | folds).items() if count}


def _votes(artifacts: Path, policy: PolicyVersion) -> Votes | None:
    manifest = _manifest(artifacts, policy)
    return manifest and Votes(
        snapshot=manifest.id,
        until=manifest.last_event,
        raters=manifest.raters,
        rows=_rows(manifest),
        dropped=manifest.dropped,
        erased=manifest.erased,
    )


def _measured(policy: PolicyVersion) -> dict[str, str]:
    if policy.gate is None:
        return {}
    checks = {check.name: check.value for check in policy.gate.checks if check.value is not None}
    numbers = {name: f"{value:.4g}" for name, value in (policy.gate.metrics | checks).items()}
    return {"verdict": str(policy.gate.verdict), "against": f"v{policy.gate.live_version}"} | numbers


def _recipe(client: redis.Redis, policy: PolicyVersion) -> dict[str, str]:
    """Flat; empty where the run is not known any more."""
    try:
        found = runs.get(client, policy.run) if policy.run else None
    except UsageError:
        return {}
    return {} if found is None else {"method": found.method} | _flat(json.loads(found.recipe))


def _flat(nested: dict[str, object], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in nested.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": json.dumps(value)}
    return found


def _held(artifacts: Path, policy: PolicyVersion) -> dict[str, str]:
    manifest = _manifest(artifacts, policy)
    if manifest is None:
        return {"id": policy.snapshot[:12]} if policy.snapshot else {}
    counts = _rows(manifest) | {"raters": manifest.raters}
    counts |= {f"dropped.{reason}": count for reason, count in manifest.dropped.items()}
    return {"id": manifest.id[:12], "last event": manifest.last_event} | {name: str(it) for name, it in counts.items()}


def _changes(before: dict[str, str], after: dict[str, str], *, equal_too: bool = False) -> list[Change]:
    names = [*before, *(name for name in after if name not in before)]
    found = [Change(name=name, before=before.get(name, ""), after=after.get(name, "")) for name in names]
    return [change for change in found if equal_too or change.before != change.after]
