"""Lineage and difference of policy versions, from a real registry and manifests on disk."""

from pathlib import Path

import pytest
import redis

from core import keys, registry, releases
from core.errors import UsageError
from core.records import GateReport, PolicyState, PolicyVersion, SnapshotManifest, Verdict
from feedback.head_to_head import head_to_head
from plumbline import policies
from plumbline.policies import Difference
from training import runs


def manifest(name: str, *, rows: int) -> SnapshotManifest:
    given = {"policy_rows": rows, "prompts": 0, "dropped": {"tie": 3}, "raters": 7, "live_version": 0}
    folds = {"optimize": rows - 1, "judge": 1}
    record = {"id": name, "created": 1.0, "last_event": "9-0", "rows": rows, "rows_by_fold": folds, "thumbs": 0}
    return SnapshotManifest.model_validate(record | given | {"base_sha256": "b", "tokenizer_sha256": "t"})


def publish(client: redis.Redis, artifacts: Path, *, parent: int, rows: int, recipe: str, verdict: str = "pass") -> int:
    """A version of a run of its own, with its snapshot on disk, and live if its gate passed."""
    name = f"snapshot{rows}"
    directory = artifacts / "snapshots" / name
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text(manifest(name, rows=rows).to_json())
    run = runs.planned(snapshot=name, parent=parent, recipe=recipe, last_vote=1.0)
    assert runs.create(client, run, votes=rows) == "created"
    claimed = runs.claim(client, run.id, "test", 60.0)
    assert claimed is not None
    metrics = {"win_rate": 0.5 + rows / 1000}
    gate = GateReport(verdict=Verdict(verdict), live_version=parent, checks=[], metrics=metrics, summary="s")
    fields = {"version": 0, "base_sha256": "b", "adapter_sha256": "a" * 64, "created": 1.0, "state": "candidate"}
    fields |= {"parent": parent, "method": "dpo", "run": run.id, "snapshot": name}
    candidate = PolicyVersion.model_validate(fields)
    version = registry.publish(
        client, candidate.model_copy(update={"gate": gate}), gate, run=run.id, attempt=claimed.attempt
    )
    if verdict == "pass":
        releases.promote(client, f"rel_{version}", reason="e = 21", actor="scheduler")
    return version


@pytest.fixture
def family(redis_client: redis.Redis, tmp_path: Path) -> redis.Redis:
    """v1 from v0; then v2, rejected, and v3 from v1."""
    zero = {"version": 0, "parent": None, "base_sha256": "b", "adapter_sha256": "0", "method": "zero", "created": 1.0}
    registry.initialise(redis_client, PolicyVersion.model_validate(zero | {"state": "live"}), actor="test")
    publish(redis_client, tmp_path, parent=0, rows=100, recipe='{"dpo": {"beta": 0.1}, "seed": 0}')
    publish(redis_client, tmp_path, parent=1, rows=150, recipe='{"dpo": {"beta": 0.2}, "seed": 0}', verdict="fail")
    publish(redis_client, tmp_path, parent=1, rows=200, recipe='{"dpo": {"beta": 0.3}, "seed": 0}')
    return redis_client


def test_lineage_goes_down_to_version_zero(family: redis.Redis, tmp_path: Path) -> None:
    """Each step with its state, its run and what its snapshot holds; v2 is nobody's parent."""
    found = policies.lineage(family, tmp_path, 3)
    assert [(step.version, step.state) for step in found] == [
        (3, PolicyState.LIVE),
        (1, PolicyState.PREVIOUS),
        (0, PolicyState.RETIRED),
    ]
    newest, oldest = found[0].votes, found[-1].votes
    assert newest is not None and oldest is None
    assert (newest.snapshot, newest.until, newest.raters) == ("snapshot200", "9-0", 7)
    assert newest.rows == {"pairs": 200, "pairs.optimize": 199, "pairs.judge": 1}
    assert newest.dropped == {"tie": 3}


def test_lineage_tells_of_what_was_erased_and_of_what_is_not_here(family: redis.Redis, tmp_path: Path) -> None:
    """A version that descends from a tainted one is tainted; a manifest on another machine is left out."""
    registry.taint(family, [1], at=5.0)
    (tmp_path / "snapshots" / "snapshot200" / "manifest.json").unlink()
    found = policies.lineage(family, tmp_path, 3)
    assert [step.tainted for step in found] == [5.0, 5.0, None]
    assert [step.votes is None for step in found] == [True, False, True]


def between(client: redis.Redis, artifacts: Path, before: int, after: int) -> Difference:
    """As far as people have not compared them."""
    return policies.difference(client, artifacts, head_to_head([], before, after))


def test_the_difference_of_two_versions(family: redis.Redis, tmp_path: Path) -> None:
    """Gate numbers side by side, and of recipe and snapshot only what is not the same."""
    found = between(family, tmp_path, 2, 3)
    assert found.path == [2, 1, 3]
    gate = {change.name: (change.before, change.after) for change in found.gate}
    assert gate == {"verdict": ("fail", "pass"), "against": ("v1", "v1"), "win_rate": ("0.65", "0.7")}
    assert [(it.name, it.before, it.after) for it in found.recipe] == [("dpo.beta", "0.2", "0.3")]
    snapshot = {change.name: (change.before, change.after) for change in found.snapshot}
    assert snapshot["pairs"] == ("150", "200") and "raters" not in snapshot and "dropped.tie" not in snapshot


def test_the_difference_to_version_zero(family: redis.Redis, tmp_path: Path) -> None:
    """Which has no gate, no run and no snapshot; both directions have the way between them."""
    found = between(family, tmp_path, 0, 3)
    assert (found.path, between(family, tmp_path, 3, 0).path) == ([0, 1, 3], [3, 1, 0])
    assert all(change.before == "" for change in (*found.gate, *found.recipe, *found.snapshot))


@pytest.mark.parametrize("known", [0, 9])
def test_an_unknown_version(family: redis.Redis, tmp_path: Path, known: int) -> None:
    """One line that says where to look, whichever of the two it is."""
    with pytest.raises(UsageError, match="no policy version 9"):
        between(family, tmp_path, known, 9)
    with pytest.raises(UsageError, match="no policy version 9"):
        policies.lineage(family, tmp_path, 9)


def test_a_run_that_is_gone_has_no_recipe(family: redis.Redis, tmp_path: Path) -> None:
    """What is not known is left out."""
    run = registry.policy(family, 3).run
    family.delete(keys.run(run or ""))
    assert {change.after for change in between(family, tmp_path, 2, 3).recipe} == {""}
