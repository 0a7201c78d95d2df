"""Erases a person: from Redis, the archive, snapshots and runs, and at last from Redis's append-only file.

Asked for by the API or the command line, done by the scheduler in steps that can be killed anywhere and run again:

    tombstone → what is theirs, written down → Redis → archive → snapshots → runs → tainted policies
    → forget whom it was about → append-only file, written anew → done

The tombstone comes first, so that no snapshot that is cut meanwhile holds the person. It names them by a keyed hash, as
the id itself is not to remain anywhere: the job's own name is made of that hash too, so asking twice is one job.

Out of reach: exports and backups that were made of any of this, Redis's RDB dumps if it is set to make any, and the
weights of policies, which are listed as tainted.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import cast

import redis
import redis.asyncio

from core import keys, registry
from core.access import tenant_of
from core.errors import InvalidRequest, NotFound, UsageError
from core.records import Erasure, ErasureState, now
from core.redis import lua, script
from feedback import archiving, erasure_files, erasure_redis, scripts
from feedback.archive import Archive
from feedback.erasure_plan import Traces, trace
from feedback.rows import hashed_rater
from feedback.store import deployment_salt, deployment_salt_async

_LUA = Path(__file__).parent / "lua"
ForgetRuns = Callable[[Collection[str]], list[str]]
"""Stops the runs on these snapshots and deletes their directories; returns the runs' ids. What training leaves behind
is not this package's to know. May raise UsageError: not yet, try again."""


# --- asking -------------------------------------------------------------------------------------------------------


async def request(client: redis.asyncio.Redis, rater: str) -> Erasure:
    """Queues the erasure of a rater, or finds the one that is under way.

    Raises:
        InvalidRequest: nobody is named.
        Unavailable: Redis is away.
    """
    if not rater:
        raise InvalidRequest("Nobody is named: say whom to erase.")
    with scripts.unavailable_when_away():
        job = f"er_{hashed_rater(await deployment_salt_async(client), rater)[:32]}"
        asked = Erasure(id=job, state=ErasureState.QUEUED, tenant=tenant_of(rater), requested=now())
        ask = client.register_script(lua(_LUA / "erase_request.lua"))
        held = await ask(keys=[keys.erasure(job), keys.ERASURES], args=[job, asked.to_json(), rater])
    return Erasure.model_validate_json(held)


async def find(client: redis.asyncio.Redis, job: str) -> Erasure:
    """Raises:
    NotFound: there is no such job.
    Unavailable: Redis is away.
    """
    with scripts.unavailable_when_away():
        held = await client.hget(keys.erasure(job), "record")
    if held is None:
        raise unknown()
    return Erasure.model_validate_json(held)


def unknown() -> NotFound:
    return NotFound("There is no such erasure.", code="erasure_not_found")


# --- doing --------------------------------------------------------------------------------------------------------


def pending(client: redis.Redis) -> list[str]:
    """The jobs that are not done."""
    return sorted(cast(set[str], client.smembers(keys.ERASURES)))


def run(client: redis.Redis, artifacts: Path, job: str, *, forget_runs: ForgetRuns) -> Erasure | None:
    """Brings a job to its end, from wherever it stands; None if the archive is in use and it must wait.

    Raises:
        UsageError, OSError: it cannot be finished now, and says why; the job does too. To be tried again.
        redis.RedisError: not even that could be noted.
    """
    archive = Archive(artifacts)
    with archiving.alone(archive.directory) as only_one:
        if not only_one:
            return None
        try:
            return _finished(client, archive, artifacts, job, forget_runs)
        except redis.RedisError as error:  # whose words repeat what was to be written
            why = UsageError(f"Redis is away or full ({type(error).__name__})")
            _note(client, job, error=str(why))
            raise why from None
        except (UsageError, OSError) as error:
            _note(client, job, error=str(error))
            raise


def _finished(client: redis.Redis, archive: Archive, artifacts: Path, job: str, forget_runs: ForgetRuns) -> Erasure:
    held = _held(client, job)
    if held.state in (ErasureState.QUEUED, ErasureState.ERASING):
        _erase(client, archive, artifacts, job, forget_runs)
    if held.state is not ErasureState.DONE:
        client.hdel(keys.erasure(job), "rater", "traces")
        erasure_redis.rewrite_aof(client)
        held = _note(client, job, state=ErasureState.DONE, finished=now(), error="")
    client.srem(keys.ERASURES, job)
    return held


def _erase(client: redis.Redis, archive: Archive, artifacts: Path, job: str, forget_runs: ForgetRuns) -> None:
    archiving.prepare(client, archive)
    rater = cast(str, client.hget(keys.erasure(job), "rater"))
    said = {"schema": 1, "rater": hashed_rater(deployment_salt(client), rater), "action": "erase", "actor": job}
    script(client, _LUA / "erase_tombstone.lua")(keys=[keys.erasure(job), keys.FEEDBACK], args=[json.dumps(said)])
    traces = _written_down(client, archive, job, rater)
    _note(client, job, state=ErasureState.ERASING, **_added(client, job, erasure_redis.erase(client, traces)))
    gone = erasure_files.erase_archive(archive, traces)
    _note(client, job, **_added(client, job, {"archive_rows": gone}))
    snapshots = _erase_snapshots(client, artifacts, job, traces)
    _note(client, job, runs=sorted({*_held(client, job).runs, *forget_runs(snapshots)}))
    _note(client, job, tainted=_taint(client, snapshots), state=ErasureState.REWRITING)


def _written_down(client: redis.Redis, archive: Archive, job: str, rater: str) -> Traces:
    """All that is theirs. What a killed attempt had found is still known, whatever it removed."""
    traces = trace(client, archive, rater)
    if earlier := cast(str | None, client.hget(keys.erasure(job), "traces")):
        traces = traces.merged(Traces.model_validate_json(earlier))
    client.hset(keys.erasure(job), "traces", traces.model_dump_json())
    return traces


def _erase_snapshots(client: redis.Redis, artifacts: Path, job: str, traces: Traces) -> list[str]:
    """Their names are noted before their rows are gone, and with these the knowledge of whom they held."""
    names = sorted({*_held(client, job).snapshots, *erasure_files.holding(artifacts, traces)})
    _note(client, job, snapshots=names)
    for name in names:
        erasure_files.erase_snapshot(artifacts, name, at=now())
    erasure_files.forget_outcomes(artifacts, traces)
    erasure_files.remove_unfinished(artifacts)
    return names


def _taint(client: redis.Redis, snapshots: Collection[str]) -> list[int]:
    """Marks the policies that were trained on these snapshots; returns them with all that descend from them."""
    policies = registry.policies(client)
    trained = {policy.version for policy in policies if policy.snapshot in snapshots}
    registry.taint(client, sorted(trained), at=now())
    for policy in policies:  # a parent comes before its children
        if policy.parent in trained:
            trained.add(policy.version)
    return sorted(trained)


def _held(client: redis.Redis, job: str) -> Erasure:
    return Erasure.model_validate_json(cast(str, client.hget(keys.erasure(job), "record")))


def _added(client: redis.Redis, job: str, counts: dict[str, int]) -> dict[str, object]:
    return {"counts": dict(Counter(_held(client, job).counts) + Counter(counts))}


def _note(client: redis.Redis, job: str, **fields: object) -> Erasure:
    """The scheduler is the only one that writes to a job that is under way."""
    noted = _held(client, job).model_copy(update=fields)
    client.hset(keys.erasure(job), "record", noted.to_json())
    return noted
