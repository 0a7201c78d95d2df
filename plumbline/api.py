"""The API process: serving and feedback behind one public listener, metrics behind an admin listener.

One uvicorn server each, on one event loop. SIGTERM and SIGINT turn readiness off, let streams in flight end, and then
shut the engine down: uvicorn's own handler would raise the signal again as soon as it has drained and leave vLLM's
child processes orphaned (vllm notes, section 1).
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Metric, generate_latest
from prometheus_client.registry import Collector

import feedback.app
import serving.app
import web
from core import http
from core.errors import UsageError
from core.redis import connect
from core.settings import Settings, settings
from feedback.archive import Archive
from plumbline import gauges, openapi
from plumbline.ports import listening_socket

log = logging.getLogger("plumbline.api")
_DRAIN_S = 30
_PAGE_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to this module."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Api:
    """Both listeners and what stands behind them."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.draining = False
        self._redis = connect(config.redis_url)
        self._archive = Archive(config.artifacts)
        self.public, self.admin = openapi.applications()
        http.install(self.public, max_body_bytes=config.max_body_bytes, cors_origins=config.vote_origins)
        http.install(self.admin, max_body_bytes=config.max_body_bytes)
        self.serving = serving.app.attach(self.public, config, config.redis_url)
        self.feedback = feedback.app.attach(self.public, config.redis_url, config, admin=self.admin)
        self._add_probes()
        self.public.mount("/", Page(directory=web.directory(), html=True))

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
            body = state.model_dump() | {"ready": is_ready, "draining": self.draining}
            return JSONResponse(body, status_code=200 if is_ready else 503)

        @self.admin.get("/metrics", include_in_schema=False)
        async def scrape() -> Response:
            return Response(await asyncio.to_thread(self._scrape), media_type=CONTENT_TYPE_LATEST)

    def _scrape(self) -> bytes:
        gauges.refresh(self._redis, self._archive)
        return generate_latest(_Exported())

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT.

        Raises:
            UsageError: a port is taken, or the base cannot be loaded.
        """
        config = self.config
        public_socket = listening_socket(config.host, config.port, variable="PLUMBLINE_PORT")
        admin_socket = listening_socket(config.admin_host, config.admin_port, variable="PLUMBLINE_ADMIN_PORT")
        servers = [_server(self.public), _server(self.admin)]
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        async with self._listening(servers, [public_socket, admin_socket]):
            await self.feedback.start()
            starting = asyncio.create_task(self.serving.start())
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                log.info("ready on http://%s:%s", config.host, config.port)
            await stopping
            self.draining = True
            log.info("draining: no new connections, streams in flight are finished")
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await self.serving.stop()
        await self.feedback.stop()
        self._redis.close()

    @contextlib.asynccontextmanager
    async def _listening(
        self, servers: Sequence[uvicorn.Server], sockets: Sequence[socket.socket]
    ) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(server.serve(sockets=[sock])) for server, sock in zip(servers, sockets, strict=True)
        ]
        try:
            yield
        finally:
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*tasks)


class _Exported(Collector):
    """Everything but vLLM's series per combination of adapter names: with versioned names it grows for ever."""

    def collect(self) -> Iterator[Metric]:
        return (family for family in REGISTRY.collect() if family.name != "vllm:lora_requests_info")


class Page(StaticFiles):
    """The pages (`/tasks` is tasks.html), under a content security policy that lets nothing in from elsewhere."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        found = super().lookup_path(path)
        return super().lookup_path(f"{path}.html") if found[1] is None else found

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["content-security-policy"] = _PAGE_POLICY
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["cache-control"] = "no-cache"
        return response


def _server(app: FastAPI) -> _Server:
    options = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_S,
        server_header=False,
    )
    return _Server(options)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = settings()
        if not config.redis_url:
            raise UsageError(
                "REDIS_URL is not set: `plumbline up` starts Redis and everything else, `serve` needs one."
            )
        asyncio.run(Api(config).run())
    except UsageError as error:
        print(f"plumbline serve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
