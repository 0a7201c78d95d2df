"""The scheduler: counts votes, starts a round when there are enough, rings again for runs that nobody works on,
archives old votes, erases whoever asked for it, and decides releases (plumbline/release.py).

`python -m plumbline.scheduler` runs Celery's beat and one worker for the short tasks that it rings. Everything is
decided from Redis in steps that can be repeated, so two schedulers at once do no more than one.
"""

import logging
import os
import sys
import time
from dataclasses import replace
from typing import cast

import redis
from celery.signals import beat_embedded_init, worker_ready  # type: ignore[import-untyped]

from core import audit, keys, logs, registry, releases
from core.adapters import MANIFEST
from core.errors import PlumblineError, UsageError
from core.records import AdapterManifest, Run
from core.redis import connect
from core.settings import Settings, settings
from feedback import archiving, store
from feedback.archive import Archive
from feedback.archiving import Moved
from feedback.cut import Trust, cut_snapshot
from feedback.snapshot import Snapshot, read_manifest
from plumbline import erasures, release, trust
from training import runs, shadow, survey, trainer
from training.recipe import load_recipe
from training.survey import Asked
from training.worker import CHECK, app, broker_url, quiet, ring, ring_for_shadow, send

log = logging.getLogger("plumbline.scheduler")
ARCHIVE = "plumbline.archive"
ARCHIVE_INTERVAL_S = 60.0
"""A task moves one partition at most: 50,000 votes a minute."""

ERASE = "plumbline.erase"
ERASE_INTERVAL_S = 5.0


@app.task(name=CHECK)  # type: ignore[untyped-decorator]
def check_now(force: bool = False) -> None:
    with connect(settings().redis_url) as client:
        check(client, settings(), force=force)


@app.task(name=ARCHIVE)  # type: ignore[untyped-decorator]
def archive_now() -> None:
    with connect(settings().redis_url) as client:
        archive_votes(client, settings())


@app.task(name=ERASE)  # type: ignore[untyped-decorator]
def erase_now() -> None:
    with connect(settings().redis_url) as client:
        erasures.carry_out(client, settings())
        erasures.strike_off(client, settings())


def request_round(client: redis.Redis, config: Settings, *, actor: str, reason: str) -> None:
    """Asks the running scheduler for a round now: it knows the recipe and the artifacts, this process may not.

    The audit is told first, since the broker may be another Redis: what it tells of was asked for, if perhaps in vain.
    """
    audit.append(client, "run.start", actor=actor, reason=reason)
    send(CHECK, [True], queue=keys.OPS_QUEUE, config=config)


def check(client: redis.Redis, config: Settings, *, force: bool = False) -> None:
    """One look: reconcile, start a round if it is time, and leave word for `plumbline status`."""
    for run in runs.lost(client):
        ring(run.id, config)
    try:
        start_round(client, config, force=force)
    except PlumblineError as error:
        _note(client, last_reason=str(error))
    opened = releases.current(client)
    if opened is not None and shadow.may_ring(client, opened):
        ring_for_shadow(opened.id, config)
    active = runs.active(client)
    _note(
        client,
        votes_new=str(new_votes(client)),
        min_votes=str(config.min_votes),
        next_check=str(time.time() + config.check_interval_s),
        active_run=active[0].id if active else "",
    )


def start_round(client: redis.Redis, config: Settings, *, force: bool = False) -> Run | None:
    """Cuts a snapshot and queues a run on it, if there are enough new votes (or `force`) and no run is active. Where
    the raters are looked at first, this is a later call's, to which it does not matter any more why it was asked for.

    Returns:
        The queued run; None if there is none to start yet, with the reason in the scheduler's hash.

    Raises:
        UsageError: there is no policy yet, or a file that the round starts from is missing.
    """
    asked = survey.pending(client)
    if active := runs.active(client):
        if force:
            _note(client, last_reason=f"run {active[0].id[:8]} is {active[0].state}")
        if asked is not None:  # the round that waited for it has begun
            survey.end(client, config.artifacts, asked.snapshot)
        return None
    if asked is None and new_votes(client) < config.min_votes and not force:
        return None
    if (opened := releases.current(client)) is not None:  # its votes are to judge the policy that is live now
        _note(client, last_reason=f"release {opened.id} is open")
        return None
    return _surveyed(client, config, asked) if asked is not None else _first(client, config)


def _first(client: redis.Redis, config: Settings) -> Run | None:
    """Cuts the snapshot; if its raters are to be looked at first, asks for that."""
    votes = store.count_votes(client)
    parent, snapshot = _cut(client, config)
    if snapshot.manifest.policy_rows == 0 or not config.trust:
        return _begin(client, config, parent, snapshot, votes=votes)
    if trust.is_surveyable(snapshot):
        recipe = load_recipe(config.recipe).model_dump_json()
        return _surveyed(client, config, survey.ask(client, snapshot.manifest.id, recipe=recipe, votes=votes))
    if (found := trust.judged(client, config, of=snapshot.manifest.id)) is not None:
        votes = store.count_votes(client)
        parent, snapshot = _cut(client, config, found)
    return _begin(client, config, parent, snapshot, votes=votes)


def _surveyed(client: redis.Redis, config: Settings, asked: Asked) -> Run | None:
    """If the survey came, or will not come any more: judges the raters and starts the round that waits for it."""
    looked_at = trust.looked_at(client, config, asked)
    if looked_at is None:
        _note(client, last_reason="the raters are looked at first")
        return None
    if trust.is_erased(config, looked_at) or not config.trust:
        survey.end(client, config.artifacts, looked_at.snapshot)
        return _first(client, config)
    found = trust.judged(client, config, of=looked_at.snapshot, error=looked_at.error)
    surveyed = read_manifest(config.artifacts / "snapshots" / looked_at.snapshot)
    parent, snapshot = _cut(client, config, found, until=surveyed.last_event)  # whom nobody looked at waits
    run = _begin(client, config, parent, snapshot, votes=looked_at.votes)
    survey.end(client, config.artifacts, looked_at.snapshot)
    return run


def _begin(client: redis.Redis, config: Settings, parent: int, snapshot: Snapshot, *, votes: int) -> Run | None:
    """Queues the run on a snapshot that was cut when there were so many votes."""
    if snapshot.manifest.policy_rows == 0:
        _note(client, last_reason=_why_no_rows(snapshot), votes_at_cut=str(votes))
        return None
    run = runs.planned(
        snapshot=snapshot.manifest.id,
        parent=parent,
        recipe=load_recipe(config.recipe).model_dump_json(),
        last_vote=snapshot.last_vote,
    )
    outcome = runs.create(client, run, votes=votes)
    if outcome == "busy":
        return None
    if outcome == "exists":
        found = runs.get(client, run.id)
        if found.state not in runs.ACTIVE:  # else another scheduler was first
            reason = f"these very votes were used by run {found.id[:8]}, which is {found.state}"
            _note(client, last_reason=reason, votes_at_cut=str(votes))
        return None
    _note(client, last_reason="")
    ring(run.id, config)
    return runs.get(client, run.id)


def new_votes(client: redis.Redis) -> int:
    """Preference votes since the last cut."""
    at_cut = cast(str | None, client.hget(keys.SCHEDULER, "votes_at_cut"))
    return store.count_votes(client) - int(at_cut or 0)


def archive_votes(client: redis.Redis, config: Settings) -> Moved | None:
    """Copies votes to the archive before the records that they name can expire, and gives up in Redis those that are
    older than any idempotency key. None if it cannot, with the reason in the scheduler's hash, or another is at it."""
    window_s = config.feedback_window_s
    try:
        moved = archiving.run(
            client,
            Archive(config.artifacts),
            copy_after_s=min(config.archive_after_s, window_s / 2),
            keep_s=max(store.IDEMPOTENCY_S, window_s),
        )
    except PlumblineError as error:
        log.error("votes are not archived: %s", error)
        _note(client, archive_error=str(error))
        return None
    _note(client, archive_error="")
    if moved is not None:
        _note(client, archived_at=str(time.time()))
    return moved


def _cut(
    client: redis.Redis, config: Settings, believed: Trust | None = None, *, until: str | None = None
) -> tuple[int, Snapshot]:
    """The version that is live now, and a snapshot for it."""
    state = registry.state(client)
    if state is None:
        raise UsageError("There is no policy yet: start the stack with `plumbline up` first.")
    directory = config.artifacts / "adapters" / registry.policy(client, state.live).adapter_sha256
    try:
        adapter = AdapterManifest.model_validate_json((directory / MANIFEST).read_text())
    except OSError as error:
        raise UsageError(f"The adapter of version {state.live} is not here: {error}") from None
    snapshot = cut_snapshot(
        client,
        config.artifacts,
        salt=store.deployment_salt(client),
        base_sha256=adapter.base_sha256,
        tokenizer_sha256=adapter.tokenizer_sha256,
        trust=replace(believed or Trust(), fastest_s=config.min_reading_s),
        until=until,
    )
    return state.live, snapshot


def _why_no_rows(snapshot: Snapshot) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(snapshot.manifest.dropped.items()))
    return f"skipped: none of {snapshot.manifest.rows} rows may train the policy ({reasons or 'no votes'})"


def _note(client: redis.Redis, **fields: str) -> None:
    client.hset(keys.SCHEDULER, mapping=fields)  # type: ignore[arg-type]


def _every(task: str, seconds: float) -> dict[str, object]:
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}


@beat_embedded_init.connect  # type: ignore[untyped-decorator]
def _die_with_the_scheduler(**_: object) -> None:
    """Beat runs in a child process of the worker's; it does not outlive it."""
    trainer.die_with(os.getppid())


@worker_ready.connect  # type: ignore[untyped-decorator]
def _watch_releases(**_: object) -> None:
    """Not before: Celery has forked its beat by now, and a fork would copy the thread's locks as they are."""
    release.start(settings())


def main() -> int:
    try:
        config = settings()
        logs.configure(config, "scheduler")
        os.environ["BROKER_URL"] = broker_url(config)  # Celery's command line reads it too, in its own spelling
        load_recipe(config.recipe)
    except UsageError as error:
        print(f"plumbline scheduler: {error}", file=sys.stderr)
        return 2
    app.conf.beat_schedule = {
        "check": _every(CHECK, config.check_interval_s),
        "archive": _every(ARCHIVE, ARCHIVE_INTERVAL_S),
        "erase": _every(ERASE, ERASE_INTERVAL_S),
    }
    arguments = [*quiet(), "worker", "--hostname", "ops@%h", "--beat", "--scheduler", "celery.beat.Scheduler"]
    arguments += ["--pool", "solo"]
    arguments += ["--queues", keys.OPS_QUEUE, "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    app.worker_main(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
