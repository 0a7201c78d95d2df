"""A program that reads the log for the API, as a child process: for its seconds of Python chat does not wait.

What goes wrong is told by the exit status, and in the last line of standard error.
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable

import redis

from core.errors import ApiError, Unavailable, UsageError
from core.redis import connect
from core.settings import Settings, settings
from feedback.archive import Archive

REFUSED, REDIS_AWAY = 2, 3
"""Exit statuses; of the first, standard error has the sentence."""


def run(work: Callable[[redis.Redis, Archive], None]) -> int:
    """`work` with the log that the settings name. Returns the exit status."""
    try:
        with connect(settings().redis_url) as client:
            work(client, Archive(settings().artifacts))
            sys.stdout.flush()
    except UsageError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except redis.RedisError as error:
        print(type(error).__name__, file=sys.stderr)
        return REDIS_AWAY
    return 0


async def ask(module: str, *arguments: str, config: Settings, redis_url: str) -> str:
    """What `python -m module` printed.

    Raises:
        Unavailable: Redis is away.
        ApiError: the log cannot be read whole, and why.
    """
    environment = os.environ | config.environment() | {"REDIS_URL": redis_url}
    command = [sys.executable, "-m", module, *arguments]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    written, said = await process.communicate()
    if process.returncode == REDIS_AWAY:
        raise Unavailable("The log cannot be read right now; try again.")
    if process.returncode != 0:
        why = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise ApiError(f"The log of votes cannot be read: {why}", code="log_unreadable")
    return written.decode()
