"""Figures of scheduler and worker as the API exports them."""

import math
from pathlib import Path

import pytest
import redis
from prometheus_client import REGISTRY

from core import evidence, keys, registry, releases
from core.records import (
    Check,
    GateReport,
    PolicyState,
    PolicyVersion,
    RunState,
    Share,
    SnapshotManifest,
    TrustReport,
    Verdict,
)
from core.redis import connect
from core.settings import Settings
from feedback import rater_review
from feedback.archive import Archive
from plumbline import gauges, scheduler, sentinel_view
from plumbline import release as controller
from tests.plumbline import releasing
from training import runs

NAMES = ("raters_quarantined", "archive_entries", "archive_last_success_timestamp_seconds", "votes_unused")


@pytest.fixture
def config(redis_server: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_server, home=tmp_path, archive_after_s=0.001)


def read() -> list[float | None]:
    return [REGISTRY.get_sample_value(f"plumbline_{name}") for name in NAMES]


def test_gauges_say_what_redis_and_the_archive_hold(redis_client: redis.Redis, config: Settings) -> None:
    """Raters in quarantine; the log's entries that are archived; when archiving last went well, 0 if never."""
    archive = Archive(config.artifacts)
    gauges.refresh(redis_client, archive)
    assert read() == [0, 0, 0, 0]
    for rater in ("p", "q"):
        rater_review.quarantine(redis_client, rater, reason="first side", actor="trust", seen="")
    redis_client.hset(keys.FEEDBACK_COUNTS, "preference", 3)
    assert scheduler.archive_votes(redis_client, config) is not None
    gauges.refresh(redis_client, archive)
    noted = float(redis_client.hget(keys.SCHEDULER, "archived_at"))
    assert (read(), noted > 0) == ([2, 2, noted, 3], True)


def test_what_the_sentinel_was_told(redis_client: redis.Redis, config: Settings) -> None:
    """The newest candidate's figures, and how many candidates were blocked; what was not measured is no number."""
    zero = {"version": 0, "parent": None, "base_sha256": "b", "adapter_sha256": "00", "method": "zero", "created": 1.0}
    registry.initialise(redis_client, PolicyVersion(**zero, state=PolicyState.LIVE), actor="test")
    check = Check(name="sentinel_judge_win", value=0.43, bound=">= 0.52", verdict=Verdict.FAIL, reason="…")
    metrics = {"length_path": 1.9, "proxy_win_rate": 0.87}
    gate = GateReport(verdict=Verdict.FAIL, live_version=0, checks=[check], metrics=metrics, summary="…")
    redis_client.hset(keys.run("r"), mapping={"state": "running", "attempt": 1})
    candidate = registry.policy(redis_client, 0).model_copy(update={"parent": 0, "method": "ppo", "gate": gate})
    registry.publish(redis_client, candidate, gate, run="r", attempt=1)
    gauges.refresh(redis_client, Archive(config.artifacts))

    told = {name: REGISTRY.get_sample_value("plumbline_sentinel", {"figure": name}) for name in (*metrics, "agreement")}
    assert told["length_path"] == 1.9 and told["proxy_win_rate"] == 0.87
    assert told["agreement"] is not None and math.isnan(told["agreement"])
    assert REGISTRY.get_sample_value("plumbline_sentinel_blocked") == 1
    assert [value("gates", verdict=verdict) for verdict in Verdict] == [0, 1, 0]

    shown = sentinel_view.table(registry.policies(redis_client), 1)
    assert shown is not None and [str(column.header) for column in shown.columns] == ["version", "optimizer", "length"]
    assert sentinel_view.table(registry.policies(redis_client), 0) is None


def test_what_cannot_be_read_keeps_its_value(redis_client: redis.Redis, config: Settings, tmp_path: Path) -> None:
    """Redis away, or an archive that cannot be read: the scrape goes on."""
    rater_review.quarantine(redis_client, "p", reason="first side", actor="trust", seen="")
    gauges.refresh(redis_client, Archive(config.artifacts))
    before = read()
    with connect(f"unix://{tmp_path}/nobody.sock") as away:
        gauges.refresh(away, Archive(config.artifacts))
    (config.artifacts / "archive").mkdir(parents=True)
    (config.artifacts / "archive" / "manifest.json").write_text("{")
    gauges.refresh(redis_client, Archive(config.artifacts))
    assert (before[0], read()) == (1, before)


def release_gauges() -> dict[str, float | None]:
    names = {"open": {}, "stage": {}, "share": {}, "raters": {}, "completions": {"arm": "candidate"}}
    found = {name: REGISTRY.get_sample_value(f"plumbline_release_{name}", labels) for name, labels in names.items()}
    for direction in ("better", "worse"):
        value = REGISTRY.get_sample_value("plumbline_release_evidence_log10", {"direction": direction})
        found[direction] = None if value is None else round(value, 3)
    return found


def test_an_open_release_is_shown(redis_server: str, redis_client: redis.Redis, config: Settings) -> None:
    """Stage, share, people, evidence (ten wins: E = 16.405, log10 1.215) and answers; zeros when it is over."""
    archive = Archive(config.artifacts)
    release = releasing.open_release(redis_client)
    releasing.votes(redis_client, release, "a" * 10)
    releasing.answers(redis_server, redis_client, 3, batch=1)
    assert evidence.claim(redis_client, releasing.OWNER, lease_s=60)
    controller.look(redis_client, config, owner=releasing.OWNER)
    gauges.refresh(redis_client, archive)
    shown = release_gauges()
    assert shown | {"worse": None} == {
        "open": 1,
        "stage": 1,
        "share": 0.01,
        "raters": 10,
        "completions": 3,
        "better": 1.215,
        "worse": None,
    }
    assert shown["worse"] is not None
    assert shown["worse"] < 0

    releases.end(redis_client, release.id, state="stopped", reason="test", actor="test")
    gauges.refresh(redis_client, archive)
    assert set(release_gauges().values()) == {0}


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(f"plumbline_{name}", labels)
    assert found is not None, name
    return found


def test_redis_is_shown(redis_client: redis.Redis, config: Settings, tmp_path: Path) -> None:
    """Whether it answers, what it holds of what it may, and whether what it holds is on disk."""
    archive = Archive(config.artifacts)
    redis_client.config_set("maxmemory", 50_000_000)
    try:
        gauges.refresh(redis_client, archive)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert value("redis_memory_max_bytes") == 50_000_000 > value("redis_memory_bytes") > 0
    assert (value("redis_up"), value("redis_durable")) == (1, 1)
    read_at = value("figures_read_timestamp_seconds")

    redis_client.config_set("appendonly", "no")
    try:
        gauges.refresh(redis_client, archive)
    finally:
        redis_client.config_set("appendonly", "yes")
    assert value("redis_durable") == 0
    with connect(f"unix://{tmp_path}/nobody.sock") as away:
        gauges.refresh(away, archive)
    assert value("redis_up") == 0 < read_at <= value("figures_read_timestamp_seconds")


def test_how_late_the_archive_is(redis_client: redis.Redis, config: Settings) -> None:
    """The age of the oldest entry that is not archived, 0 when all are; and whether the scheduler says why."""
    archive, (seconds, _) = Archive(config.artifacts), redis_client.time()
    redis_client.xadd(keys.FEEDBACK, {"rater": "{}"}, id=f"{(seconds - 500) * 1000}-0")
    redis_client.hset(keys.SCHEDULER, mapping={"archive_error": "no room", "next_check": "12.5", "min_votes": "300"})
    gauges.refresh(redis_client, archive)
    assert 500 <= value("archive_lag_seconds") < 600
    assert [value("feedback_log_entries"), value("archive_failing"), value("votes_needed")] == [1, 1, 300]
    assert value("scheduler_next_check_timestamp_seconds") == 12.5
    redis_client.delete(keys.FEEDBACK, keys.SCHEDULER)
    gauges.refresh(redis_client, archive)
    assert [value("archive_lag_seconds"), value("archive_failing")] == [0, 0]


def test_how_raters_vote(redis_client: redis.Redis, config: Settings) -> None:
    """Position and length bias with their intervals, and agreement; what was not measured is no number."""
    share = Share(value=0.61, low=0.57, high=0.65, count=600)
    report = TrustReport(
        as_of=1.0,
        snapshot="s",
        votes=700,
        surveyed=600,
        raters=40,
        quarantined=0,
        alpha_nominal=0.46,
        alpha_ordinal=None,
        first=share,
        longer=None,
        longer_expected=None,
    )
    redis_client.set(keys.TRUST, report.to_json())
    gauges.refresh(redis_client, Archive(config.artifacts))
    assert [value("vote_habit_ratio", habit="first", bound=it) for it in ("value", "low", "high")] == [0.61, 0.57, 0.65]
    assert math.isnan(value("vote_habit_ratio", habit="longer", bound="expected"))
    assert value("rater_agreement", scale="nominal") == 0.46
    assert math.isnan(value("rater_agreement", scale="ordinal"))


def test_a_run_from_waiting_to_failed(redis_client: redis.Redis, config: Settings) -> None:
    """Queued: how long it waits. Running: since when it is silent, how far its stage is. Ended: zeros."""
    archive, run = Archive(config.artifacts), runs.planned(snapshot="s", parent=0, recipe="{}", last_vote=7.5)
    assert runs.create(redis_client, run, votes=5) == "created"
    seconds, _ = redis_client.time()
    redis_client.hset(keys.run(run.id), mapping={"created": seconds - 90, "updated": seconds - 60})
    gauges.refresh(redis_client, archive)
    assert 60 <= value("run_queued_seconds") < 120
    assert (value("runs", state="queued"), value("run_silent_seconds"), value("run_attempt")) == (1, 0, 0)
    assert math.isnan(value("run_last_duration_seconds")) and math.isnan(value("vote_to_policy_seconds"))

    claimed = runs.claim(redis_client, run.id, "w", 60.0)
    assert claimed is not None
    assert runs.heartbeat(redis_client, run.id, claimed.attempt, "candidate", 0.25, 60.0)
    redis_client.hset(keys.run(run.id), "updated", seconds - 30)
    gauges.refresh(redis_client, archive)
    assert value("run_progress_ratio", stage="candidate") == 0.25
    assert 30 <= value("run_silent_seconds") < 90 <= value("run_age_seconds") < 150
    assert (value("run_queued_seconds"), value("run_attempt")) == (0, 1)

    runs.finish(redis_client, run.id, claimed.attempt, RunState.FAILED, "x")
    gauges.refresh(redis_client, archive)
    assert [value(f"run_{it}") for it in ("silent_seconds", "age_seconds", "attempt")] == [0, 0, 0]
    assert REGISTRY.get_sample_value("plumbline_run_progress_ratio", {"stage": "candidate"}) is None
    assert value("runs", state="failed") == 1


def test_a_run_that_is_done(redis_client: redis.Redis, config: Settings) -> None:
    """How long it took, from its newest vote too; the rows of its snapshot and what that left out."""
    run = runs.planned(snapshot="5d41", parent=0, recipe="{}", last_vote=80.0)
    assert runs.create(redis_client, run, votes=5) == "created"
    redis_client.hset(keys.run(run.id), mapping={"state": "done", "created": 100, "updated": 160})
    manifest = SnapshotManifest(
        id="5d41",
        created=1.0,
        last_event="0-0",
        rows=512,
        rows_by_fold={"optimize": 361, "judge": 99, "test": 52},
        policy_rows=361,
        prompts=640,
        dropped={"tie": 31},
        thumbs=0,
        live_version=0,
        base_sha256="b",
        tokenizer_sha256="t",
    )
    (config.artifacts / "snapshots" / "5d41").mkdir(parents=True)
    (config.artifacts / "snapshots" / "5d41" / "manifest.json").write_text(manifest.to_json())
    gauges.refresh(redis_client, Archive(config.artifacts))
    assert (value("run_last_duration_seconds"), value("vote_to_policy_seconds")) == (60, 80)
    assert (value("snapshot_rows", use="all"), value("snapshot_rows", use="policy")) == (512, 361)
    assert value("snapshot_dropped", reason="tie") == 31


def test_policies_and_releases_are_counted(redis_client: redis.Redis, config: Settings) -> None:
    """By state, zeros too; and the generation that replicas are to follow."""
    releasing.open_release(redis_client)
    gauges.refresh(redis_client, Archive(config.artifacts))
    states = {state: value("policies", state=state) for state in PolicyState}
    assert states == dict.fromkeys(PolicyState, 0) | {PolicyState.LIVE: 1, PolicyState.CANARY: 1}
    assert (value("releases", state="canary"), value("releases", state="rolled_back")) == (1, 0)
    state = registry.state(redis_client)
    assert state is not None
    assert value("registry_generation") == state.generation
