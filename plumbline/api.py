"""The API process: serving and feedback behind one public listener, metrics behind an admin listener.

One uvicorn server each, on one event loop. SIGTERM and SIGINT turn readiness off, let streams in flight end, and then
shut the engine down: uvicorn's own handler would raise the signal again as soon as it has drained and leave vLLM's
child processes orphaned (vllm notes, section 1).
"""

import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Metric, generate_latest
from prometheus_client.registry import Collector

import feedback.app
import serving.app
import web
from core import http, logs, sessions, tasks, tracing
from core.access import LOOK
from core.errors import UsageError
from core.exposure import is_loopback
from core.key_table import Doorkeeper, KeyTable
from core.quotas import Quotas
from core.redis import connect, connect_async
from core.secret import secret
from core.settings import Settings, settings
from core.visitors import Visitors
from feedback import invitations
from feedback.archive import Archive
from plumbline import (
    figure_endpoints,
    gauges,
    invitation_endpoints,
    key_checks,
    key_endpoints,
    openapi,
    page_sessions,
    policy_endpoints,
    run_endpoints,
    run_log_endpoints,
)
from plumbline.page import OPERATORS, VISITORS, Page
from plumbline.ports import listening_socket
from serving import sample_endpoints
from serving.protocol import Engine

log = logging.getLogger("plumbline.api")


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to this module."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Api:
    """Both listeners and what stands behind them."""

    def __init__(self, config: Settings, *, build_engine: Callable[[Settings, Path], Engine] | None = None) -> None:
        self.config = config
        self.draining = False
        self._redis = connect(config.redis_url)
        self._keys_redis = connect_async(config.redis_url)
        hashing = secret(config)
        self.keys = KeyTable(self._keys_redis, hashing, config.directory / "api-keys.json")
        self.quotas = Quotas(self._keys_redis)
        self._archive = Archive(config.artifacts)
        self.public, self.admin = openapi.applications()
        http.install(self.public, max_body_bytes=config.max_body_bytes, cors_origins=config.vote_origins)
        http.install(self.admin, max_body_bytes=config.max_body_bytes)
        is_public = not is_loopback(config.host) or config.page == "open"  # then a proxy may stand before a loopback
        self.public.state.keeper = Doorkeeper(keys=self.keys, exposed=is_public)
        self.admin.state.keeper = Doorkeeper(keys=self.keys, exposed=not is_loopback(config.admin_host))
        self.serving = serving.app.attach(
            self.public, config, config.redis_url, build_engine=build_engine, quotas=self.quotas
        )
        self.feedback = feedback.app.attach(self.public, config.redis_url, config, admin=self.admin, quotas=self.quotas)
        self.admin.include_router(policy_endpoints.routes(self._redis, config))
        self.admin.include_router(run_endpoints.routes(self._redis, config))
        self.admin.include_router(key_endpoints.routes(self._redis, hashing))
        self.admin.include_router(invitation_endpoints.routes(self._redis, hashing))
        self.admin.include_router(run_log_endpoints.routes(self._redis, config.artifacts))
        self.admin.include_router(figure_endpoints.routes(self._redis, config.artifacts))
        self.admin.include_router(sample_endpoints.router(self.serving.chats, self.serving.replica))
        self._add_probes()
        self.admin.mount("/", Page(web.directory(), OPERATORS))  # last: it takes every path that nothing else does
        if config.page != "off":
            self._add_page(hashing)

    def _add_page(self, secret: bytes) -> None:
        """Last, as on the admin listener."""
        config = self.config
        door = Visitors(
            key=sessions.signing_key(secret),
            everybody=config.page == "open",
            local=is_loopback(config.host),
            invited=partial(invitations.stands, self._keys_redis),
        )
        self.public.state.visitors = door
        invitation_key = invitations.signing_key(secret)
        self.public.include_router(page_sessions.routes(door, self.quotas, self._keys_redis, invitation_key))
        self.public.mount("/", Page(web.directory(), VISITORS))

    def _add_probes(self) -> None:
        @self.public.get("/health", include_in_schema=False)
        async def health() -> dict[str, str]:
            """200 while the event loop runs: restart me only if this fails."""
            return {"status": "ok"}

        @self.public.get("/ready", include_in_schema=False)
        async def ready() -> JSONResponse:
            """200 while chat works. Redis away degrades votes, never chat, so it is not asked here."""
            state = self.serving.readiness()
            is_ready = state.ready and not self.draining
            notes = [*state.notes, *([self.keys.away] if self.keys.away else [])]
            body = state.model_dump() | {"ready": is_ready, "draining": self.draining, "notes": notes}
            return JSONResponse(body, status_code=200 if is_ready else 503)

        @self.admin.get("/metrics", include_in_schema=False, dependencies=[LOOK])
        async def scrape() -> Response:
            return Response(await asyncio.to_thread(self._scrape), media_type=CONTENT_TYPE_LATEST)

    def _scrape(self) -> bytes:
        gauges.refresh(self._redis, self._archive)
        return generate_latest(_Exported())

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT.

        Raises:
            UsageError: a port is taken, the base cannot be loaded, or there is no key where one is needed.
        """
        config = self.config
        key_checks.refuse_open_doors(config, self._redis)
        public_socket = listening_socket(config.host, config.port, variable="PLUMBLINE_PORT")
        admin_socket = listening_socket(config.admin_host, config.admin_port, variable="PLUMBLINE_ADMIN_PORT")
        servers = [server(self.public, config), server(self.admin, config)]
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        async with self.keys_kept():
            async with self._listening(servers, [public_socket, admin_socket]):
                starting = asyncio.create_task(self.serving.start())
                stopping = asyncio.create_task(stopped.wait())
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    log.info("ready on http://%s:%s", config.host, config.port)
                await stopping
                self.draining = True
                log.info("draining: no new connections, streams in flight are finished")
            await tasks.end([starting])
            await self.serving.stop()
            await self.feedback.stop()
        self._redis.close()

    @contextlib.asynccontextmanager
    async def keys_kept(self) -> AsyncIterator[None]:
        """While it lasts, API keys are known as they are, and their limits are kept."""
        await self.keys.look()
        keeping = [asyncio.create_task(self.keys.watch()), asyncio.create_task(self.quotas.renew())]
        try:
            yield
        finally:
            await tasks.end(keeping)
            await self._keys_redis.aclose()

    @contextlib.asynccontextmanager
    async def _listening(
        self, servers: Sequence[uvicorn.Server], sockets: Sequence[socket.socket]
    ) -> AsyncIterator[None]:
        listening = [
            asyncio.create_task(server.serve(sockets=[sock])) for server, sock in zip(servers, sockets, strict=True)
        ]
        try:
            yield
        finally:
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*listening)


class _Exported(Collector):
    """Everything but vLLM's series per combination of adapter names: with versioned names it grows for ever."""

    def collect(self) -> Iterator[Metric]:
        return (family for family in REGISTRY.collect() if family.name != "vllm:lora_requests_info")


def server(app: FastAPI, config: Settings) -> uvicorn.Server:
    """The server of one listener."""
    options = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=math.ceil(config.drain_s),
        server_header=False,
        forwarded_allow_ips=config.trusted_proxies,
    )
    return _Server(options)


def main() -> int:
    try:
        config = settings()
        logs.configure(config, "api")
        tracing.start(config, "api")
        if not config.redis_url:
            raise UsageError(
                "REDIS_URL is not set: `plumbline up` starts Redis and everything else, `serve` needs one."
            )
        uvloop.run(Api(config).run())
    except UsageError as error:
        print(f"plumbline serve: {error}", file=sys.stderr)
        return 2
    finally:
        tracing.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
