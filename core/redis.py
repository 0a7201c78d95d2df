"""Redis clients with bounded waiting, and Lua scripts from files.

Every decision that must be atomic is a Lua script (EVALSHA: runs on Redis 6.2 to 8 and on Valkey alike). redis-py
retries silently after a time-out, so each script gives the same answer to its own retry (reliability notes, 0.4).
"""

import functools
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

SOCKET_TIMEOUT_S = 2.0


def connect(url: str) -> redis.Redis:
    """A blocking client, for workers, scheduler and command line."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=10.0,
        socket_connect_timeout=2.0,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=3),
        health_check_interval=25,
    )


def connect_async(url: str) -> redis.asyncio.Redis:
    """The API's client: a request waits at most about two seconds, then the caller is told (503) or goes on without."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=64,
        timeout=SOCKET_TIMEOUT_S,
        decode_responses=True,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        retry=redis.asyncio.retry.Retry(ExponentialBackoff(cap=0.2, base=0.02), retries=1),
    )
    return redis.asyncio.Redis(connection_pool=pool)


@functools.cache
def lua(*paths: Path) -> str:
    """The text of a script that lies beside its module, after that of what it uses."""
    return "\n".join(path.read_text() for path in paths)


def script(client: Any, *paths: Path) -> Any:
    """`script(client, path)(keys=[...], args=[...])` runs the Lua file: EVALSHA, loaded again if Redis forgot it."""
    return client.register_script(lua(*paths))


def clock(client: redis.Redis) -> float:
    """Unix seconds on Redis's clock, which all processes share."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6
