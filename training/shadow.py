"""The judge of answers that nobody saw (core/shadow.py): when the worker is rung for, and what it starts.

It is the run's own judge if the recipe has one (trained on the judge's fold alone), else the run's reward model: what
the gate asked too, now about real chats of today. The answers lie in Redis and go from there into the judge's memory;
no file ever holds them.
"""

import logging
import sys
import time
from pathlib import Path
from typing import cast

import redis

from core import keys, registry, releases, shadow
from core.errors import UsageError
from core.releases import Release
from core.settings import Settings
from training import trainer

BATCH = 50
"""Answers for which it is worth loading a model."""
PATIENCE_S = 600.0
"""So long after the stage began fewer are compared as well."""
RUNG_S = 120
"""At most so often."""
_LONGEST_S = 900.0
_SKIPPED_STATUS = 3

log = logging.getLogger("plumbline.shadow")


def may_ring(client: redis.Redis, release: Release) -> bool:
    """Whether the caller is to ring now: enough answers wait, and nobody was rung for lately."""
    found = shadow.load(client, release.id)
    enough = min(BATCH, shadow.WANTED - found.compared) if release.share == 0 else 1
    is_late = cast(tuple[int, int], client.time())[0] - release.staged > PATIENCE_S
    if found.error or found.waiting < (1 if is_late else max(1, enough)):
        return False
    return bool(client.set(keys.shadow_rung(release.id), "1", ex=RUNG_S, nx=True))


def carry_out(client: redis.Redis, settings: Settings, release_id: str, *, stop: int | None = None) -> None:
    """Compares what waits. What goes wrong is told with the release, which then waits for no judge any more.

    Args:
        stop: a file descriptor that becomes readable when the worker is to stop; another ring goes on.
    """
    deadline = time.monotonic() + _LONGEST_S
    try:
        run = _run_of(client, settings, release_id)
        outcome = trainer.run(
            command(settings, run, release_id),
            log=run / "shadow.log",
            beat=lambda _: time.monotonic() < deadline,
            interval_s=2.0,
            stop=stop,
        )
        if outcome.status not in (0, _SKIPPED_STATUS):
            raise UsageError(outcome.last_words or f"the judge ended with status {outcome.status}")
        log.info("%s: %s", release_id, outcome.result)
    except trainer.Stopped:
        log.warning("%s: given up; the scheduler will ring again", release_id)
    except trainer.Lost:
        shadow.fail(client, release_id, f"the judge was not done after {_LONGEST_S:.0f} s")
    except (UsageError, OSError) as error:
        log.error("%s: its unseen answers are not compared: %s", release_id, error)
        shadow.fail(client, release_id, str(error))


def command(settings: Settings, run: Path, release_id: str) -> list[str | Path]:
    """The judge's program over one run's models."""
    program: list[str | Path] = [sys.executable, "-m", "training.shadow_judge"]
    models: list[str | Path] = ["--base", Path(settings.base).resolve(), "--judge", judge_of(run)]
    return [*program, *models, "--recipe", run / "recipe.json", "--release", release_id]


def judge_of(run: Path) -> Path:
    """Which of the run's models judges."""
    own = run / "judge"
    return own if own.exists() else run / "reward"


def _run_of(client: redis.Redis, settings: Settings, release_id: str) -> Path:
    candidate = registry.policy(client, releases.release(client, release_id).version)
    found = settings.artifacts / "runs" / (candidate.run or "-")
    if not judge_of(found).is_dir():
        raise UsageError(f"the run that made version {candidate.version} has left no judge here ({found.name[:12]})")
    return found
