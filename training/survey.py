"""A look at a snapshot's votes before the round, so that who gave them can be judged: asked for, done, found.

The truth is a directory: artifacts/trust/{snapshot}/ is renamed to that name when it is whole. The hash `keys.SURVEY`
says which one the next round waits for; the broker's message only says "look at it". A lease says that somebody is at
it: the scheduler takes it when it rings, the worker takes it over and renews it, and when it has run out nobody is.
"""

import logging
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import redis

from core import keys
from core.redis import script
from core.settings import Settings
from training import trainer
from training.features import FILE

_LUA = Path(__file__).parent / "lua"
MOST_RINGS = 3
_RUNG = "rung"
"""Holder of a lease that no worker has taken over yet."""
_SKIPPED_STATUS = 3
_BEATS_PER_LEASE = 6

log = logging.getLogger("plumbline.survey")
State = Literal["ready", "waiting", "silent", "failed"]
"""It is there; somebody is at it; nobody is; it will not come."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The survey that the next round waits for: `Asked(snapshot="5d41402a…", recipe="{…}", votes=900)`."""

    snapshot: str
    recipe: str
    """As JSON."""
    votes: int
    """That people had given when the snapshot was cut."""
    rings: int
    error: str
    """Why it will not come."""


def directory(artifacts: Path, snapshot: str) -> Path:
    """Where the result lies, when it is whole."""
    return artifacts / "trust" / snapshot


def ask(client: redis.Redis, snapshot: str, *, recipe: str, votes: int) -> Asked:
    """Notes that the next round waits for a survey of this snapshot; of two who ask the first is heard."""
    if client.hsetnx(keys.SURVEY, "snapshot", snapshot):
        client.hset(keys.SURVEY, mapping={"recipe": recipe, "votes": votes})
    found = pending(client)
    assert found is not None
    return found


def pending(client: redis.Redis) -> Asked | None:
    """What was asked for and not yet ended."""
    held = cast(dict[str, str], client.hgetall(keys.SURVEY))
    if "snapshot" not in held:
        return None
    return Asked(
        snapshot=held["snapshot"],
        recipe=held.get("recipe", "{}"),
        votes=int(held.get("votes", 0)),
        rings=int(held.get("rings", 0)),
        error=held.get("error", ""),
    )


def state(client: redis.Redis, artifacts: Path, asked: Asked) -> State:
    if directory(artifacts, asked.snapshot).exists():
        return "ready"
    if asked.error:
        return "failed"
    return "waiting" if client.exists(keys.survey_lease(asked.snapshot)) else "silent"


def may_ring(client: redis.Redis, asked: Asked, *, patience_s: float) -> bool:
    """Whether the caller is to ring now. No: another rings, a worker is at it, or it was rung for often enough, which
    `state` then calls failed."""
    if not _lease(client, asked.snapshot, _RUNG, patience_s, replaces=[""]):
        return False
    if client.hincrby(keys.SURVEY, "rings", 1) <= MOST_RINGS:
        return True
    fail(client, asked.snapshot, f"nobody finished the survey, though {MOST_RINGS} times asked: does the worker run?")
    _lease(client, asked.snapshot, "", 0, replaces=[_RUNG])
    return False


def fail(client: redis.Redis, snapshot: str, why: str) -> None:
    if client.hget(keys.SURVEY, "snapshot") == snapshot:
        client.hset(keys.SURVEY, "error", why)


def end(client: redis.Redis, artifacts: Path, snapshot: str) -> None:
    """The round has what it waited for. Results of earlier surveys are of no use any more."""
    if client.hget(keys.SURVEY, "snapshot") == snapshot:
        client.delete(keys.SURVEY)
    for path in (artifacts / "trust").glob("*"):
        if path.is_dir() and path.name != snapshot:
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".log" and path.stem != snapshot:
            path.unlink(missing_ok=True)


# --- the worker's part ------------------------------------------------------------------------------------------------


def carry_out(client: redis.Redis, settings: Settings, snapshot: str, *, stop: int | None = None) -> bool:
    """Runs training.features on a snapshot, unless it is done, not asked for, or another is at it.

    Args:
        stop: a file descriptor that becomes readable when the worker is to stop; then the lease is given up.

    Returns:
        Whether there is news for the scheduler.
    """
    asked, final = pending(client), directory(settings.artifacts, snapshot)
    if asked is None or asked.snapshot != snapshot or final.exists():
        return asked is not None
    me = secrets.token_hex(8)
    if not _lease(client, snapshot, me, settings.lease_s, replaces=["", _RUNG, me]):
        return False
    out = final.with_name(f".{snapshot}-{me}")
    try:
        out.mkdir(parents=True)
        (out / "recipe.json").write_text(asked.recipe)
        outcome = trainer.run(
            _command(settings, snapshot, out),
            log=final.with_name(f"{snapshot}.log"),
            beat=lambda _: _lease(client, snapshot, me, settings.lease_s, replaces=[me]),
            interval_s=min(settings.lease_s / _BEATS_PER_LEASE, 2.0),
            stop=stop,
        )
        _take(client, out, final, outcome)
        return True
    except (trainer.Stopped, trainer.Lost):
        log.warning("survey of %s: given up; the scheduler will ring again", snapshot[:8])
        return False
    except OSError as error:
        fail(client, snapshot, str(error))
        return True
    finally:
        shutil.rmtree(out, ignore_errors=True)
        _lease(client, snapshot, "", 0, replaces=[me])


def _command(settings: Settings, snapshot: str, out: Path) -> list[str | Path]:
    program: list[str | Path] = [sys.executable, "-m", "training.features", "--base", Path(settings.base).resolve()]
    data = settings.artifacts / "snapshots" / snapshot
    return [*program, "--recipe", out / "recipe.json", "--data", data, "--out", out]


def _take(client: redis.Redis, out: Path, final: Path, outcome: trainer.Outcome) -> None:
    """Gives the result its name; or says why there is none. Who was killed may be asked again."""
    if outcome.status == 0 and (out / FILE).is_file():
        if not final.exists():  # another was first
            trainer.make_final(out, final)
        log.info("survey of %s: %s votes", final.name[:8], outcome.result.get("votes"))
    elif outcome.status == _SKIPPED_STATUS:
        fail(client, final.name, str(outcome.result.get("skipped", "skipped for no reason given")))
    elif outcome.status >= 0:
        fail(client, final.name, outcome.last_words or f"exit status {outcome.status}")
    else:
        log.warning("survey of %s: killed by signal %d", final.name[:8], -outcome.status)


def _lease(client: redis.Redis, snapshot: str, holder: str, life_s: float, *, replaces: list[str]) -> bool:
    given = [holder, max(1, round(life_s)), *replaces]
    return bool(script(client, _LUA / "survey_lease.lua")(keys=[keys.survey_lease(snapshot)], args=given))
