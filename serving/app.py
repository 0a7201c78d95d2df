"""Attaches the chat API to an application and runs what stands behind it: engine, swap loop, record log."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from core import logs, metrics, tasks
from core.adapters import base_shapes
from core.base import resolve_base
from core.quotas import Quotas
from core.records import now
from core.redis import connect, connect_async
from core.settings import Settings
from serving import choice, comparisons, conversation_endpoints, endpoints, engine_process, stored_endpoints
from serving.admission import Admission
from serving.chats import Chats
from serving.completions import CompletionLog
from serving.conversations import Conversations
from serving.exposure import Exposures
from serving.protocol import Engine
from serving.replica_cache import ReplicaCache
from serving.schemas import Readiness
from serving.shadow import Shadows
from serving.stored import StoredCompletions
from serving.swap import Replica

DRAIN_S = 30.0

log = logging.getLogger("plumbline.serving")


class Serving:
    """The chat API of one process. `start` returns at once; `ready` turns true when a verified policy is live."""

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        build_engine: Callable[[Settings, Path], Engine],
        quotas: Quotas | None = None,
    ) -> None:
        base = resolve_base(settings.base)
        self._engine = build_engine(settings, base)
        self._registry = connect(redis_url)
        self.redis = connect_async(redis_url)
        self.records = CompletionLog(self.redis, window_s=settings.feedback_window_s)
        cache = ReplicaCache(settings.directory / "replica-cache", settings.artifacts, base_shapes(base))
        self.replica = Replica(self._engine, cache, self._registry)
        self.exposures = Exposures(self.redis)
        self.admission = Admission(settings.max_answers)
        self.shadows = Shadows(self._engine, self.replica, self.admission, self.redis, share=settings.shadow)
        self.chats = Chats(
            self._engine,
            self.replica,
            self.records,
            self.exposures,
            quotas or Quotas(self.redis),
            admission=self.admission,
            shadows=self.shadows,
            train_by_default=settings.train_by_default,
            stall_s=settings.stall_s,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        await self.records.sample()
        works = (self.records.watch(), self.replica.run(), self.exposures.run(), self.shadows.run())
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        """Lets answers in flight end (at most `DRAIN_S`), then ends the engine's processes."""
        self._stopping = True
        self.shadows.close()
        deadline = time.monotonic() + DRAIN_S
        while self.replica.in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await tasks.end(self._tasks)
        await self.chats.drain()
        await self.exposures.send()
        await self._engine.stop()
        await self.redis.aclose()
        self._registry.close()

    def ready(self) -> bool:
        return self._engine.alive and self.replica.residents is not None and not self._stopping

    def readiness(self) -> Readiness:
        """The body of `/ready`."""
        residents = self.replica.residents
        notes = [*self.replica.notes, *(["shutting down"] if self._stopping else [])]
        if not self.records.recording:
            notes.append(f"completions are not recorded: {self.records.away}")
        return Readiness(
            ready=self.ready(),
            engine=self._engine.alive,
            generation=residents.generation if residents else None,
            live=residents.live if residents else None,
            resident=sorted(residents.policies) if residents else [],
            recording=self.records.recording,
            notes=notes,
        )


def attach(
    app: FastAPI,
    settings: Settings,
    redis_url: str,
    *,
    build_engine: Callable[[Settings, Path], Engine] | None = None,
    quotas: Quotas | None = None,
) -> Serving:
    """Adds the chat routes to `app`. The caller starts and stops what is returned.

    Raises:
        UsageError: `PLUMBLINE_BASE` names no base model that can be read.
    """
    serving = Serving(settings, redis_url, build_engine or build_vllm, quotas)
    app.include_router(endpoints.router(serving.chats, serving.replica, started=int(now())))
    app.include_router(stored_endpoints.router(StoredCompletions(serving.redis)))
    if settings.page != "off":
        conversations = Conversations(serving.redis, serving.records, days=settings.conversation_days)
        app.include_router(conversation_endpoints.router(conversations, serving.chats.quotas))
    doubt = partial(choice.version_doubt, serving.redis)
    app.include_router(
        comparisons.router(
            serving.chats, serving.replica, serving.records, doubt, release_sampling=settings.release_sampling
        )
    )
    return serving


def build_vllm(settings: Settings, base: Path) -> Engine:
    """The real engine; imports vllm, which takes seconds. What vllm reads from the environment is set first."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.kv_cache_gib))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # Threads of the CPU engine; on GPU they hardly matter. One core is left to the API, Redis and the trainer.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) - 1)))
    os.environ.update(VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")
    if settings.log == "json":
        path = settings.directory / "logs" / "engine-logging.json"
        logs.write_config(settings, "engine", logger="vllm", level=os.environ["VLLM_LOGGING_LEVEL"], path=path)
        os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(path)
    if Path(settings.base).expanduser().exists():
        os.environ["HF_HUB_OFFLINE"] = "1"
    engine_process.begin()
    with metrics.STARTUP.labels("imports").time():
        from serving.engine import VllmEngine

    return VllmEngine(
        base,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        tool_parser=settings.tool_parser,
        max_queued_tokens=settings.max_queued_tokens,
    )
