"""The figures of Redis, scheduler and worker, which have no listener: the API reads them when it is scraped.

Every replica exports the same ones, so a query takes `max` over replicas. Left out: figures that no record holds
(the loss of a step, which stands in a run's metrics.jsonl) and the share of the most active rater, for which the whole
log would have to be read at each scrape.
"""

import functools
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

import redis
from prometheus_client import Gauge

from core import evidence, exposures, keys, metrics, registry, releases, shadow
from core.errors import UsageError
from core.records import PolicyState, PolicyVersion, Run, RunState, Share, SnapshotManifest, TrustReport, Verdict
from core.redis import clock
from core.releases import Ending
from core.shadow import Shadow
from feedback import log as feedback_log
from feedback.archive import Archive
from feedback.events import position
from feedback.snapshot import read_manifest
from plumbline.scheduler import new_votes
from training import runs, sentinel

log = logging.getLogger("plumbline.gauges")
_NONE = math.nan


def refresh(client: redis.Redis, archive: Archive) -> None:
    """Sets the loop's gauges; those that cannot be read keep their last values, and `FIGURES_READ` tells since when."""
    try:
        _show_redis(client)
        metrics.REDIS_UP.set(1)
    except redis.RedisError as error:
        metrics.REDIS_UP.set(0)
        log.warning("the loop's gauges keep their last values: %s", error)
        return
    try:
        _show_feedback(client, archive)
        _show_scheduler(client)
        _show_trust(client)
        _show_runs(client, archive.directory.parent)
        _show_policies(client)
        _show_release(client)
        metrics.FIGURES_READ.set_to_current_time()
    except (redis.RedisError, UsageError, ValueError) as error:
        log.warning("the loop's gauges keep their last values: %s", error)


def _show_redis(client: redis.Redis) -> None:
    memory = cast(Mapping[str, int], client.info("memory"))
    disk = cast(Mapping[str, int | str], client.info("persistence"))
    metrics.REDIS_MEMORY.set(memory["used_memory"])
    metrics.REDIS_MEMORY_MAX.set(memory.get("maxmemory", 0))
    went_well = disk.get("aof_last_write_status") == "ok" and disk.get("aof_last_bgrewrite_status") == "ok"
    metrics.REDIS_DURABLE.set(int(disk["aof_enabled"] == 1 and went_well))


def _show_feedback(client: redis.Redis, archive: Archive) -> None:
    manifest = archive.manifest()
    metrics.RATERS_QUARANTINED.set(cast(int, client.scard(keys.QUARANTINED)))
    metrics.LOG_ENTRIES.set(cast(int, client.xlen(keys.FEEDBACK)))
    metrics.ARCHIVE_ENTRIES.set(sum(partition.files["events"].rows for partition in manifest.partitions))
    waiting = feedback_log.stream(client, after=manifest.last, count=1)
    age = clock(client) - position(waiting[0].position)[0] / 1000 if waiting else 0
    metrics.ARCHIVE_LAG.set(max(0.0, age))


def _show_scheduler(client: redis.Redis) -> None:
    """What it noted of itself (plumbline/scheduler.py)."""
    noted = cast(Mapping[str, str], client.hgetall(keys.SCHEDULER))
    metrics.VOTES_UNUSED.set(new_votes(client))
    metrics.VOTES_NEEDED.set(float(noted.get("min_votes") or 0))
    metrics.SCHEDULER_NEXT.set(float(noted.get("next_check") or 0))
    metrics.ARCHIVE_SUCCESS.set(float(noted.get("archived_at") or 0))
    metrics.ARCHIVE_FAILING.set(int(bool(noted.get("archive_error"))))


def _show_trust(client: redis.Redis) -> None:
    found = cast(str | None, client.get(keys.TRUST))
    report = TrustReport.model_validate_json(found) if found else None
    _show_habit("first", report and report.first, {})
    _show_habit("longer", report and report.longer, {"expected": report and report.longer_expected})
    metrics.AGREEMENT.labels("nominal").set(_number(report and report.alpha_nominal))
    metrics.AGREEMENT.labels("ordinal").set(_number(report and report.alpha_ordinal))


def _show_habit(habit: str, share: Share | None, more: Mapping[str, float | None]) -> None:
    bounds = {"value": share and share.value, "low": share and share.low, "high": share and share.high}
    for bound, value in {**bounds, **more}.items():
        metrics.VOTE_HABIT.labels(habit, bound).set(_number(value))


def _number(value: float | None) -> float:
    """What was not measured is no number."""
    return _NONE if value is None else value


# --- runs -------------------------------------------------------------------------------------------------------------


def _show_runs(client: redis.Redis, artifacts: Path) -> None:
    found, now = runs.all_runs(client), clock(client)
    _count(metrics.RUNS, RunState, [run.state for run in found])
    queued = [run for run in found if run.state is RunState.QUEUED]
    running = next((run for run in found if run.state is RunState.RUNNING), None)
    metrics.RUN_QUEUED.set(max((now - run.updated for run in queued), default=0))
    metrics.RUN_SILENT.set(now - running.updated if running else 0)
    metrics.RUN_AGE.set(now - running.created if running else 0)
    metrics.RUN_ATTEMPT.set(max((run.attempt for run in found if run.state in runs.ACTIVE), default=0))
    metrics.RUN_PROGRESS.clear()
    if running:
        metrics.RUN_PROGRESS.labels(running.stage).set(running.progress)
    done = [run for run in found if run.state is RunState.DONE]
    metrics.RUN_LAST.set(done[-1].updated - done[-1].created if done else _NONE)
    metrics.VOTE_TO_POLICY.set(done[-1].updated - done[-1].last_vote if done and done[-1].last_vote else _NONE)
    if found:
        _show_snapshot(found[-1], artifacts)


def _show_snapshot(run: Run, artifacts: Path) -> None:
    manifest = _manifest(artifacts / "snapshots" / run.snapshot)
    metrics.SNAPSHOT_DROPPED.clear()
    if manifest is None:
        return
    metrics.SNAPSHOT_ROWS.labels("all").set(manifest.rows)
    metrics.SNAPSHOT_ROWS.labels("policy").set(manifest.policy_rows)
    for reason, votes in manifest.dropped.items():
        metrics.SNAPSHOT_DROPPED.labels(reason).set(votes)


@functools.lru_cache(maxsize=4)
def _manifest(snapshot: Path) -> SnapshotManifest | None:
    """A snapshot never changes, so its manifest is read once; None if it is not on this machine."""
    try:
        return read_manifest(snapshot)
    except UsageError:
        return None


# --- policies and releases --------------------------------------------------------------------------------------------


def _show_policies(client: redis.Redis) -> None:
    state, policies = registry.state(client), registry.policies(client)
    metrics.REGISTRY_GENERATION.set(state.generation if state else 0)
    _count(metrics.POLICIES, PolicyState, [policy.state for policy in policies])
    _count(metrics.GATES, Verdict, [policy.gate.verdict for policy in policies if policy.gate is not None])
    _watched(policies)


def _watched(policies: Sequence[PolicyVersion]) -> None:
    """The sentinel's figures of the newest candidate that has any, and how many it blocked."""
    reports = [policy.gate for policy in policies if policy.gate is not None]
    failed = [{check.name for check in report.checks if check.verdict is Verdict.FAIL} for report in reports]
    metrics.SENTINEL_BLOCKED.set(sum(any(name.startswith("sentinel_") for name in names) for names in failed))
    told = [report.metrics for report in reports if "length_path" in report.metrics]
    for figure in sentinel.SERIES if told else ():
        metrics.SENTINEL.labels(figure).set(told[-1].get(figure, _NONE))


def _show_release(client: redis.Redis) -> None:
    """Of the open release; zeros without one."""
    _count(metrics.RELEASES, ("canary", *get_args(Ending)), [release.state for release in releases.releases(client)])
    release = releases.current(client)
    known = evidence.load(client, release.id) if release else None
    arms = exposures.read(client, release.id, share=release.share) if release else {}
    metrics.RELEASE_OPEN.set(int(release is not None))
    metrics.RELEASE_STAGE.set(release.stage if release else 0)
    metrics.RELEASE_SHARE.set(release.share if release else 0)
    metrics.RELEASE_RATERS.set(known.raters if known else 0)
    metrics.RELEASE_EVIDENCE.labels("better").set(known.log10_e if known else 0)
    metrics.RELEASE_EVIDENCE.labels("worse").set(known.log10_e_against if known else 0)
    unseen = shadow.load(client, release.id) if release else Shadow(release="")
    counts = {"win": unseen.wins, "tie": unseen.ties, "loss": unseen.losses, "waiting": unseen.waiting}
    for outcome, count in counts.items():
        metrics.RELEASE_SHADOW.labels(outcome).set(count)
    for arm in get_args(exposures.Arm):
        metrics.RELEASE_COMPLETIONS.labels(arm).set(arms[arm].staged if arms else 0)


def _count(gauge: Gauge, names: Sequence[str] | type[RunState | PolicyState | Verdict], found: Sequence[str]) -> None:
    """How many there are of each name, zeros too."""
    counts = Counter(found)
    for name in names:
        gauge.labels(name).set(counts[name])
