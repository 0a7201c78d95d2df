"""Work that dies right before its n-th step, for every n: a process that forks a worker for each death.

The worker kills itself with SIGKILL. Steps are seen from outside: commands on its Redis connection, and those of
Python's audit events that its module takes for one. The module has `work(client, *arguments)` and
`is_step(event, path)`; it runs as `python -m tests.feedback.nursery MODULE URL ARGUMENT…`, one line of stdin a worker.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import redis

_left = 0


@contextmanager
def nursery(module: str, url: str, *arguments: str) -> Iterator[Callable[[int], int]]:
    """Gives a function of the step to die before, from 1; it returns the worker's status, 0 if it came to its end."""
    command = [sys.executable, "-m", __name__, module, url, *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": Path(__file__).parents[2]}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdin is not None and process.stdout is not None
        told, heard = process.stdin, process.stdout

        def dies_before(step: int) -> int:
            told.write(f"{step}\n")
            told.flush()
            return int(heard.readline())

        yield dies_before
        told.close()


class Mortal(redis.Redis):
    """Each command is a step."""

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        _step()
        return super().execute_command(*arguments, **options)


def _step() -> None:
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    global _left
    name, url, *arguments = sys.argv[1:]
    module = import_module(name)
    pa.array([1])  # imports pandas where there is one; not anew in each child

    def audit(event: str, given: tuple[Any, ...]) -> None:
        if _left > 0 and module.is_step(event, str(given[0]) if given else ""):
            _step()

    for line in sys.stdin:
        if (child := os.fork()) == 0:
            _left = int(line)
            sys.addaudithook(audit)
            module.work(Mortal.from_url(url, decode_responses=True), *arguments)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
