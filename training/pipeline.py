"""One round, as a story: claim the run, work through its stages, put the candidate to the registry.

Each stage is a program in a subprocess. It writes into runs/{run}/attempt-{n}/{stage}/, which is renamed to
runs/{run}/{stage}/ when it is finished: so a directory of that name is whole, and the next attempt skips it. A trainer
that was killed, with its worker or alone, leaves a checkpoint, from which the next attempt's trainer goes on.
"""

import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import redis

from core import keys, registry, releases, tracing
from core.adapters import MANIFEST
from core.errors import Conflict, UsageError
from core.records import AdapterManifest, Choices, GateReport, PolicyState, PolicyVersion, Run, RunState, now
from core.settings import Settings
from training import runs, sentinel, trainer
from training.program import CHECKPOINT
from training.reward_card import VOTES
from training.stages import CHOICE, CHOICES, RESULT, Round, Stage, stages_of
from training.trainer import Lost, Outcome, Stopped

log = logging.getLogger("plumbline.training")
_SKIPPED_STATUS = 3
_BEATS_PER_LEASE = 6
_SLOWEST_BEAT_S = 2.0
_CHOICE_S = 900.0
"""Longest that a worker thinks about what to ask next."""
_OF_THE_PARENT = ("candidate", "publish", "evaluate")
"""Stages whose result is worthless once another policy is live."""
T = TypeVar("T")


class StageSkipped(Exception):
    """A stage found nothing sensible to do; the message says why."""


class StageFailed(Exception):
    """A stage ended with an error; the message is its last word."""


def run_round(
    client: redis.Redis,
    settings: Settings,
    run_id: str,
    *,
    stages: Sequence[Stage] | None = None,
    choice: Stage | None = None,
    stop: int | None = None,
) -> Run | None:
    """Claims a run and brings it as far as it goes; None if it was not to be had. All ends are in the run's record.

    Args:
        stages: instead of the recipe's own.
        choice: instead of `CHOICE`; with other stages there is none by default.
        stop: a file descriptor that becomes readable when the worker is to stop; the run is then given back.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
    run = _patiently(settings, lambda: _claim(client, settings, run_id, owner))
    if run is None:
        return None
    log.info("run %s: attempt %d", run.id, run.attempt)
    finish = partial(_finish, client, settings, run)
    try:
        round_ = _prepare(client, settings, run)
        for stage in stages_of(run) if stages is None else stages:
            _check_live(client, settings, run)
            if not round_.finished(stage.name).exists():
                _run_stage(client, settings, round_, stage, stop)
        version = _commit(client, settings, round_)
        if choice is not None or stages is None:
            _leave_choices(client, round_, choice or CHOICE, version, stop)
    except StageSkipped as reason:
        finish(RunState.SKIPPED, str(reason))
    except Conflict as reason:
        if finish(RunState.FAILED, f"{reason}; `plumbline runs retry` repeats the round against it"):
            _drop(artifacts=settings.artifacts, run=run)
    except (StageFailed, UsageError, OSError, ValueError, KeyError) as error:
        finish(RunState.FAILED, str(error))
    except Lost:
        log.warning("run %s: attempt %d was cancelled or taken over; its trainer is stopped", run.id, run.attempt)
    except Stopped:
        _patiently(settings, lambda: runs.release(client, run.id, run.attempt))
    return runs.get(client, run_id)


def _claim(client: redis.Redis, settings: Settings, run_id: str, owner: str) -> Run | None:
    return runs.claim(client, run_id, owner, settings.lease_s, max_attempts=settings.max_attempts)


def _prepare(client: redis.Redis, settings: Settings, run: Run) -> Round:
    """Finds what the round starts from, and drops what an earlier attempt made from another parent.

    Raises:
        UsageError: the base or the parent's adapter is not on this machine.
    """
    if not Path(settings.base).is_dir():
        raise UsageError(f"The base {settings.base!r} is not a directory here: set PLUMBLINE_BASE.")
    policy = registry.policy(client, run.parent)
    parent = settings.artifacts / "adapters" / policy.adapter_sha256
    try:
        manifest = AdapterManifest.model_validate_json((parent / MANIFEST).read_text())
    except OSError as error:
        raise UsageError(f"The adapter of version {run.parent} is not here: {error}") from None
    round_ = Round(
        run=run,
        base=Path(settings.base).resolve(),
        artifacts=settings.artifacts,
        parent=parent,
        serving_dtype=manifest.serving_dtype,
        previous_reward=_reward_of(settings, policy),
    )
    round_.attempt.mkdir(parents=True, exist_ok=True)
    made_from = round_.directory / "parent"
    if made_from.exists() and made_from.read_text() != str(run.parent):
        _drop(artifacts=settings.artifacts, run=run)
    made_from.write_text(str(run.parent))
    round_.recipe.write_text(run.recipe)
    steps = sentinel.steps(registry.policies(client), run.parent)
    round_.steps.write_text(json.dumps([step.model_dump(mode="json", by_alias=True) for step in steps]) + "\n")
    return round_


def _reward_of(settings: Settings, policy: PolicyVersion) -> Path | None:
    """The reward model of the run that made this version, if it left a list of its votes."""
    found = settings.artifacts / "runs" / (policy.run or "-") / "reward"
    return found if (found / VOTES).is_file() else None


def _check_live(client: redis.Redis, settings: Settings, run: Run) -> None:
    """Raises:
    Conflict: another version went live: what this run trains would be measured against the wrong one.
    """
    state = _patiently(settings, lambda: registry.state(client))
    if state is not None and state.live != run.parent:
        raise Conflict(f"version {state.live} is live now, and this run started from version {run.parent}")


def _run_stage(client: redis.Redis, settings: Settings, round_: Round, stage: Stage, stop: int | None) -> None:
    """Runs one program; its directory gets its final name only when it ended well.

    Raises:
        StageSkipped, StageFailed, Lost, Stopped: it did not.
    """
    out = round_.attempt / stage.name
    _go_on(round_, stage, out)
    started = time.monotonic()
    with tracing.span(f"stage {stage.name}", {"plumbline.run.attempt": round_.run.attempt}):
        outcome = trainer.run(
            stage.command(round_, out),
            log=round_.attempt / f"{stage.name}.log",
            beat=partial(_beat, client, settings, round_.run, stage.name),
            interval_s=min(settings.lease_s / _BEATS_PER_LEASE, _SLOWEST_BEAT_S),
            stop=stop,
        )
        tracing.annotate({"process.exit.code": outcome.status})
    if outcome.status == _SKIPPED_STATUS:
        raise StageSkipped(f"{stage.name}: {outcome.result.get('skipped', 'no reason given')}")
    if outcome.status != 0:
        if outcome.status > 0:  # nobody killed it: from the same checkpoint it would fail again
            (out / CHECKPOINT).unlink(missing_ok=True)
        raise StageFailed(_failure(stage, outcome))
    (out / RESULT).write_text(json.dumps(outcome.result) + "\n")
    trainer.make_final(out, round_.finished(stage.name))
    log.info("run %s: %s took %.1f s", round_.run.id, stage.name, time.monotonic() - started)


def _go_on(round_: Round, stage: Stage, out: Path) -> None:
    """Makes the stage's directory, with what the last attempt that was killed in it left behind. A copy: the program
    of an attempt that was taken over may still be writing."""
    left = sorted(round_.directory.glob(f"attempt-*/{stage.name}/{CHECKPOINT}"), key=lambda path: path.stat().st_mtime)
    if left:
        log.info("run %s: %s goes on where %s was", round_.run.id, stage.name, left[-1].parent.parent.name)
        shutil.copytree(left[-1].parent, out, ignore=shutil.ignore_patterns("*.new"))
    else:
        out.mkdir()


def _failure(stage: Stage, outcome: Outcome) -> str:
    cause = f"killed by signal {-outcome.status}" if outcome.status < 0 else outcome.last_words
    return f"{stage.name}: {cause or f'exit status {outcome.status}'}"


def _beat(client: redis.Redis, settings: Settings, run: Run, stage: str, progress: float) -> bool:
    """A heartbeat. While Redis is away training goes on: if the lease is lost meanwhile, the next one says so."""
    try:
        return runs.heartbeat(client, run.id, run.attempt, stage, progress, settings.lease_s)
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        log.warning("run %s: Redis is away, training goes on: %s", run.id, error)
        return True


def _commit(client: redis.Redis, settings: Settings, round_: Round) -> int:
    """Registers the candidate, opens its release if the gate passed, and ends the run, in one step; returns its
    version. While another candidate is on its way, this one waits for that one's end.

    Raises:
        Conflict: another attempt holds the run, or another version went live since the evaluation.
    """
    run = round_.run
    gate = GateReport.model_validate_json((round_.finished("evaluate") / "gate.json").read_text())
    sha256 = round_.result("publish")["adapter_sha256"]
    manifest = AdapterManifest.model_validate_json((round_.adapter(sha256) / MANIFEST).read_text())
    candidate = PolicyVersion(
        version=0,  # the registry gives the number
        parent=run.parent,
        base_sha256=manifest.base_sha256,
        adapter_sha256=sha256,
        method=run.method,
        snapshot=run.snapshot,
        run=run.id,
        gate=gate,
        created=now(),
        state=PolicyState.CANDIDATE,
    )
    stage = releases.first_stage(settings.shadow)
    version = _patiently(
        settings,
        lambda: registry.publish(client, candidate, gate, run=run.id, attempt=run.attempt, stage=stage),
    )
    log.info("run %s: version %d, gate %s: %s", run.id, version, gate.verdict, gate.summary)
    return version


def _leave_choices(client: redis.Redis, round_: Round, stage: Stage, version: int, stop: int | None) -> None:
    """Works out what to ask next, for the API and for `plumbline tasks suggest`. The run has ended and nobody waits:
    whatever goes wrong here is logged, and what an earlier run left stays."""
    run, out = round_.run, round_.attempt / stage.name
    deadline = time.monotonic() + _CHOICE_S
    try:
        out.mkdir()
        outcome = trainer.run(
            stage.command(round_, out),
            log=round_.attempt / f"{stage.name}.log",
            beat=lambda _: time.monotonic() < deadline,
            interval_s=_SLOWEST_BEAT_S,
            stop=stop,
        )
        if outcome.status != 0:
            raise StageFailed(_failure(stage, outcome))
        choices = Choices.model_validate_json((out / CHOICES).read_text())
        trainer.make_final(out, round_.finished(stage.name))
        fields = {"run": run.id, "policy_version": str(version)}
        fields |= {"versions": choices.versions.to_json(), "pairs": choices.open_pairs.to_json()}
        client.hset(keys.CHOICES, mapping=fields)  # type: ignore[arg-type]
        log.info("run %s: %d pairs of answers to choose from", run.id, len(choices.open_pairs.pairs))
    except (StageFailed, Lost, Stopped, OSError, ValueError, redis.exceptions.RedisError) as error:
        log.warning("run %s: nothing new on what to ask next: %s", run.id, str(error) or type(error).__name__)


def _finish(client: redis.Redis, settings: Settings, run: Run, state: RunState, reason: str) -> bool:
    log.info("run %s: %s: %s", run.id, state, reason)
    return _patiently(settings, lambda: runs.finish(client, run.id, run.attempt, state, reason))


def _patiently(settings: Settings, call: Callable[[], T]) -> T:
    """Waits up to a lease for a Redis that restarts. Everything called through here gives the same answer twice."""
    deadline = time.monotonic() + settings.lease_s
    while True:
        try:
            return call()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _drop(*, artifacts: Path, run: Run) -> None:
    directory = artifacts / "runs" / run.id
    for stage in _OF_THE_PARENT:
        for path in (directory / stage, *directory.glob(f"attempt-*/{stage}")):
            shutil.rmtree(path, ignore_errors=True)
