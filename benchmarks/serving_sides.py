"""The sides of benchmarks/serving.py: this service, vLLM's bare OpenAI server, and a LiteLLM proxy in front of that.

Engine and flags are the same (`serving/engine_flags.py`), and so is the LoRA operator that runs in the worker. What
differs is what is measured: our API around vLLM's serving layer, with a record of every completion on disk.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from benchmarks.peers import litellm
from core import keys, registry, releases
from core.records import GateReport, PolicyState, PolicyVersion, Verdict, new_id, now
from core.redis import connect
from core.settings import Settings
from plumbline import embedded_redis
from serving.engine_flags import BASE_NAME, flags
from training.recipe import LoraRecipe

ROOT = Path(__file__).parent.parent
MAX_MODEL_LEN = 512
_START_S = 900.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """A server under test. While it is not asked it is stopped (SIGSTOP), so that it takes nothing from the others."""

    name: str
    port: int
    model: str
    """How a request names the policy that all sides serve."""
    processes: Sequence[int]
    """With their children, all that belongs to it."""

    def sleep(self) -> None:
        for process in self._family():
            process.suspend()

    def wake(self) -> None:
        for process in self._family():
            process.resume()

    def processor_s(self) -> float:
        """User and system time of all of it until now."""
        return sum(times.user + times.system for times in (process.cpu_times() for process in self._family()))

    def _family(self) -> Iterator[psutil.Process]:
        for pid in self.processes:
            root = psutil.Process(pid)
            yield from (root, *root.children(recursive=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ours:
    """This service, and the registry by which its policy is changed."""

    side: Side
    registry: redis.Redis


@contextlib.contextmanager
def awake(sides: Sequence[Side]) -> Iterator[None]:
    """These run within the block; they sleep before and after it."""
    for side in sides:
        side.wake()
    try:
        yield
    finally:
        for side in sides:
            side.sleep()


# --- ours -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Registry:
    """A Redis that writes before it answers, with versions 0 and 1 registered and 1 live."""

    url: str
    client: redis.Redis
    pid: int


def registry_with(stack: contextlib.ExitStack, directory: Path, *, zero: str, live: str) -> Registry:
    store = stack.enter_context(_process(embedded_redis.command(directory / "redis"), directory / "redis.log"))
    url = embedded_redis.url(directory / "redis")
    client = connect(url)
    _until(lambda: bool(client.ping()), "Redis")
    registry.initialise(client, version(zero), actor="benchmark")
    promote(client, live)
    return Registry(url=url, client=client, pid=store.pid)


@contextlib.contextmanager
def api(directory: Path, base: Path, policies: Registry, *, checkout: Path = ROOT) -> Iterator[tuple[Settings, int]]:
    """The API of a checkout of this project, ready: its settings and its process's id."""
    settings = Settings(home=directory, redis_url=policies.url, base=str(base), port=_free_port())
    settings = settings.model_copy(update={"max_model_len": MAX_MODEL_LEN, "admin_port": _free_port()})
    environment = settings.environment() | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "plumbline.api"]
    with _process(command, directory / "api.log", environment, where=checkout) as process:
        _until(lambda: _answers(settings.port, "/ready"), "our API", process)
        yield settings, process.pid


def ours(stack: contextlib.ExitStack, directory: Path, base: Path, *, zero: str, live: str) -> Ours:
    """The API over a Redis of its own."""
    policies = registry_with(stack, directory, zero=zero, live=live)
    settings, pid = stack.enter_context(api(directory, base, policies))
    side = Side(name="ours", port=settings.port, model="assistant", processes=[pid, policies.pid])
    return Ours(side=side, registry=policies.client)


def version(sha256: str, parent: int | None = None) -> PolicyVersion:
    return PolicyVersion(
        version=0,
        parent=parent,
        base_sha256="benchmark",
        adapter_sha256=sha256,
        method="dpo" if parent is not None else "zero",
        created=now(),
        state=PolicyState.CANDIDATE if parent is not None else PolicyState.LIVE,
    )


def promote(client: redis.Redis, sha256: str) -> int:
    """Publishes an adapter as a run does whose gate passed, ends its release at once, and returns its version, which is
    live from now on."""
    state = registry.state(client)
    assert state is not None
    run = new_id("run")
    client.hset(keys.run(run), mapping={"state": "running", "attempt": 1})
    gate = GateReport(verdict=Verdict.PASS, live_version=state.live, checks=[], summary="benchmark")
    candidate = version(sha256, parent=state.live).model_copy(update={"run": run})
    number = registry.publish(client, candidate, gate, run=run, attempt=1)
    releases.promote(client, f"rel_{number}", reason="benchmark", actor="benchmark")
    return number


# --- the others -------------------------------------------------------------------------------------------------------


def bare_vllm(stack: contextlib.ExitStack, directory: Path, base: Path, adapters: dict[str, Path]) -> Side:
    """vLLM's own server, by its own entry point; `adapters` by the name that a request has to say, the first is what
    all sides serve. Its access log is off, as ours is."""
    port = _free_port()
    chosen = flags(
        base, dtype="float32", max_rank=LoraRecipe().rank, max_model_len=MAX_MODEL_LEN, tool_parser="", on_cpu=True
    )
    chosen += ["--host", "127.0.0.1", "--port", str(port), "--uvicorn-log-level", "warning"]
    chosen += ["--disable-uvicorn-access-log", "--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *chosen]
    environment = {  # as serving/app.py and serving/engine.py set it for ours
        "VLLM_CPU_KVCACHE_SPACE": str(Settings().kv_cache_gib),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) - 1)),
        "TORCH_COMPILE_DISABLE": "1",
    }
    process = stack.enter_context(_process(command, directory / "vllm.log", environment))
    _until(lambda: _answers(port, "/health"), "vLLM's server", process)
    return Side(name="vllm", port=port, model=next(iter(adapters)), processes=[process.pid])


def litellm_proxy(stack: contextlib.ExitStack, directory: Path, peers: Path, behind: Side) -> Side:
    """LiteLLM's proxy with one worker, as its documentation starts it, in front of `behind`."""
    port = _free_port()
    route = {
        "model": f"hosted_vllm/{behind.model}",
        "api_base": f"http://127.0.0.1:{behind.port}/v1",
        "api_key": "none",
    }
    config = {"model_list": [{"model_name": "assistant", "litellm_params": route}]}
    (directory / "litellm.json").write_text(json.dumps(config))  # JSON is YAML
    command = [litellm(peers), "--config", directory / "litellm.json", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # no keys, as on the other sides
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "PYTHONPATH": "",
    }
    process = stack.enter_context(_process(command, directory / "litellm.log", environment))
    _until(lambda: _answers(port, "/health/liveliness"), "LiteLLM", process)
    return Side(name="litellm", port=port, model="assistant", processes=[process.pid])


BASE_MODEL = BASE_NAME
"""How a request to vLLM's server names the base without an adapter."""


# --- processes --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _process(
    command: Sequence[str | Path], log: Path, environment: dict[str, str] | None = None, *, where: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Ended with its children, sleeping or not."""
    variables = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with log.open("wb") as output:
        arguments, variables = [str(part) for part in command], variables | (environment or {})
        process = subprocess.Popen(arguments, env=variables, cwd=where, stdout=output, stderr=output)
    family = [psutil.Process(process.pid)]
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += family[0].children(recursive=True)
        for member in reversed(family):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()
        process.terminate()
        _, left = psutil.wait_procs(family, timeout=30)
        for member in left:
            member.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _answers(port: int, path: str) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
        return bool(response.status == 200)


def _until(condition: object, what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Raises SystemExit: it ended, or did not come in time."""
    assert callable(condition)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, redis.RedisError):
            if condition():
                return
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"{what} did not start; its log is beside the base model (--directory keeps it)")
