"""Supervised children."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from core.errors import UsageError
from plumbline.processes import Child, run_once
from tests.processes import is_alive

# Starts a grandchild that would sleep for ever, writes its pid, and waits too.
FAMILY = (
    "import subprocess, sys, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"
)


async def eventually(condition: object, *, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.05)


def family(directory: Path) -> Child:
    command = [sys.executable, "-c", FAMILY]
    return Child("family", command, env=dict(os.environ), log_file=directory / "log")


def grandchildren(directory: Path) -> list[int]:
    return [int(line) for line in (directory / "log").read_text().split()] if (directory / "log").exists() else []


def test_stop_leaves_nobody_of_the_group(tmp_path: Path) -> None:
    """Stopping a child ends its grandchildren too."""

    async def story() -> None:
        child = family(tmp_path)
        await child.start()
        await eventually(lambda: grandchildren(tmp_path))
        await child.stop(timeout_s=5)
        await eventually(lambda: not is_alive(grandchildren(tmp_path)[0]))

    asyncio.run(story())


def test_killed_child_is_replaced_and_its_group_is_gone(tmp_path: Path) -> None:
    """After kill -9 of a child no orphan of it lives on, and a new one runs."""

    async def story() -> None:
        child = family(tmp_path)
        await child.start()
        await eventually(lambda: grandchildren(tmp_path))
        assert child.process is not None
        os.kill(child.process.pid, 9)
        await eventually(lambda: len(grandchildren(tmp_path)) == 2)
        first, second = grandchildren(tmp_path)
        assert (is_alive(first), is_alive(second), child.restarts) == (False, True, 1)
        await child.stop(timeout_s=5)

    asyncio.run(story())


def test_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """`stop` ends after its timeout, whatever the child does."""

    async def story() -> None:
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
        child = Child("deaf", [sys.executable, "-c", code], env=dict(os.environ), log_file=tmp_path / "log")
        await child.start()
        await eventually(lambda: grandchildren(tmp_path))
        await child.stop(timeout_s=0.2)
        assert child.process is not None
        assert child.process.returncode == -9

    asyncio.run(story())


def test_run_once_returns_the_output_and_explains_a_failure(tmp_path: Path) -> None:
    """The last words of a program that failed are the error message."""

    async def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        return await run_once("program", command, env=dict(os.environ), log_file=tmp_path / "log")

    assert asyncio.run(run("print('done')")) == "done\n"
    with pytest.raises(UsageError, match="program failed:\nno such base"):
        asyncio.run(run("import sys; sys.exit('no such base')"))
