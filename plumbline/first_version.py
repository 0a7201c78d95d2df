"""Policy version 0, with which a deployment begins: it stands for the base, as an all-zero adapter.

`plumbline up` registers it by itself. Where the processes are started one by one, `plumbline init` does so beforehand,
on a machine that can hold the base: the adapter's probe is measured there.
"""

import asyncio
import json
import sys
from pathlib import Path

import redis

from core import keys, registry
from core.adapters import base_shapes
from core.errors import UsageError
from core.records import PolicyState, PolicyVersion, now
from core.settings import Settings
from plumbline.processes import run_once


async def register(
    client: redis.Redis, settings: Settings, base: Path, *, environment: dict[str, str], actor: str
) -> bool:
    """Once in the life of a deployment; doing it again changes nothing and returns False.

    Args:
        environment: what the publishing program is started with.
        actor: for the audit log.

    Raises:
        UsageError: the deployment belongs to another base, or the adapter could not be made.
    """
    sha256 = (await asyncio.to_thread(base_shapes, base)).sha256
    client.hsetnx(keys.DEPLOYMENT, "base_sha256", sha256)
    if client.hget(keys.DEPLOYMENT, "base_sha256") != sha256:
        raise UsageError(
            f"{settings.directory} belongs to another base than {base}: all its adapters are trained over that one. "
            "Set another PLUMBLINE_HOME (and Redis), or serve the first base."
        )
    if registry.state(client) is not None:
        return False
    zero = PolicyVersion(
        version=0,
        parent=None,
        base_sha256=sha256,
        adapter_sha256=await _published(settings, base, environment),
        method="zero",
        created=now(),
        state=PolicyState.LIVE,
    )
    return registry.initialise(client, zero, actor=actor)


async def _published(settings: Settings, base: Path, environment: dict[str, str]) -> str:
    """The hash of the all-zero adapter, which now lies under the artifacts."""
    command = [sys.executable, "-m", "training.publish", "--zero", "--base", base, "--recipe", settings.recipe]
    command += ["--artifacts", settings.artifacts, "--serving-dtype", serving_dtype(settings)]
    logs = settings.directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    output = await run_once("training.publish", command, env=environment, log_file=logs / "publish.log")
    return str(json.loads(output.splitlines()[-1])["adapter_sha256"])


def serving_dtype(settings: Settings) -> str:
    """What the engine computes in: the probe's log-probs must come from the same."""
    return "float32" if settings.dtype == "auto" else settings.dtype
