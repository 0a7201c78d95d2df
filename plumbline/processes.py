"""Child processes that cannot be orphaned, and their supervision.

Each child leads a process group of its own. When it ends, however it ends, the whole group is killed before anything
else happens: a killed API must not leave an engine behind that holds memory and a core. Should the supervisor itself
be killed, the kernel ends the children (PR_SET_PDEATHSIG).
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from core.errors import UsageError

log = logging.getLogger("plumbline.stack")
_PR_SET_PDEATHSIG = 1
_HEALTHY_S = 30.0
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel sends SIGTERM to this process when the thread that started it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_group(pid: int) -> None:
    """SIGKILL to whatever is left of the process group that `pid` led."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class Child:
    """One supervised program: restarted when it ends by itself, stopped with its whole group."""

    def __init__(self, name: str, command: Sequence[str | Path], *, env: dict[str, str], log_file: Path) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.env = env
        self.log_file = log_file
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self, *, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL to the group after `timeout_s`."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self.process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), timeout_s)
            except TimeoutError:
                log.warning("%s did not stop within %.0f s and is killed", self.name, timeout_s)
        kill_group(process.pid)
        await process.wait()

    def last_words(self, lines: int = 12) -> str:
        """The end of its log, for an error message."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    async def _spawn(self) -> None:
        with self.log_file.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    async def _keep(self) -> None:
        """Restarts the child for ever, slower while it keeps dying young."""
        delay, loop = 0.5, asyncio.get_running_loop()
        while True:
            assert self.process is not None
            started = loop.time()
            status = await self.process.wait()
            kill_group(self.process.pid)
            delay = 0.5 if loop.time() - started > _HEALTHY_S else min(delay * 2, 15.0)
            self.restarts += 1
            log.warning("%s ended with status %s; it is started again in %.1f s", self.name, status, delay)
            await asyncio.sleep(delay)
            await self._spawn()


async def run_once(name: str, command: Sequence[str | Path], *, env: dict[str, str], log_file: Path) -> str:
    """Runs a program to its end and returns what it printed; what it said on stderr goes to `log_file`.

    Raises:
        UsageError: it failed; the message is the end of what it said.
    """
    with log_file.open("w+b") as log_output:
        process = await asyncio.create_subprocess_exec(
            *(str(part) for part in command),
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log_output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            output, _ = await process.communicate()
        finally:
            kill_group(process.pid)
        if process.returncode != 0:
            log_output.seek(0)
            words = log_output.read().decode(errors="replace").strip().splitlines()[-12:]
            raise UsageError("\n".join([f"{name} failed:", *words]))
    return output.decode()
