"""One trainer as a subprocess that cannot be orphaned: started in its own group, watched, and stopped with the group.

The worker never imports torch: a subprocess survives nothing that it should not, gives all its memory back, and may
use CUDA, which a forked worker may not. Its stdout carries JSON lines: progress (training/progress.py) and a result.
"""

import contextlib
import ctypes
import functools
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.files import fsync

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_BESIDE_AN_ENGINE = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Spinning OpenMP threads cost an engine on the same machine a factor of ten. What the environment says wins."""


class Stopped(Exception):
    """The worker is being stopped; the trainer was killed."""


class Lost(Exception):
    """The run was cancelled or taken over; the trainer was killed."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """How a trainer ended: `Outcome(status=0, result={"adapter_sha256": "9f86…"}, last_words="")`."""

    status: int = -1
    result: dict[str, Any] = field(default_factory=dict)
    """The last JSON object on its stdout that is not progress."""
    progress: float = 0.0
    last_words: str = ""
    """The last line that it wrote to its log."""


def run(
    command: Sequence[str | Path],
    *,
    log: Path,
    beat: Callable[[float], bool],
    interval_s: float,
    stop: int | None = None,
) -> Outcome:
    """Runs a trainer to its end.

    Args:
        log: what it says on stderr is appended there.
        beat: called with the progress at least every `interval_s`; False kills the trainer.
        stop: a file descriptor that becomes readable when the worker is to stop.

    Raises:
        Stopped, Lost: it was killed, with its whole group.
    """
    with log.open("ab", buffering=0) as log_output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_output,
            env=_BESIDE_AN_ENGINE | os.environ,
            start_new_session=True,
            preexec_fn=functools.partial(die_with, os.getpid()),
        )
        try:
            outcome = _watch(process, log_output.write, beat=beat, interval_s=interval_s, stop=stop)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # before wait(): until then its number cannot be anybody else's
            status = process.wait()
            assert process.stdout is not None
            process.stdout.close()
    outcome.status = status
    outcome.last_words = _last_line(log)
    return outcome


def die_with(parent: int) -> None:
    """For a fresh child: the kernel kills it when its `parent` ends, however that ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def _watch(
    process: subprocess.Popen[bytes],
    log: Callable[[bytes], object],
    *,
    beat: Callable[[float], bool],
    interval_s: float,
    stop: int | None,
) -> Outcome:
    """Reads and beats until the process ends; its own end, not the end of its output, is what counts."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    outcome, rest, ended = Outcome(), b"", os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor in (output, ended, *([] if stop is None else [stop])):
                selector.register(descriptor, selectors.EVENT_READ)
            due = time.monotonic()
            while True:
                ready = {key.fd for key, _ in selector.select(max(0.0, due - time.monotonic()))}
                if output in ready or ended in ready:
                    rest, is_open = _read(output, rest, outcome, log)
                    if not is_open and ended not in ready:
                        selector.unregister(output)
                if ended in ready:
                    return outcome
                if stop in ready:
                    raise Stopped
                if time.monotonic() >= due:
                    due = time.monotonic() + interval_s
                    if not beat(outcome.progress):
                        raise Lost
    finally:
        os.close(ended)


def _read(output: int, rest: bytes, outcome: Outcome, log: Callable[[bytes], object]) -> tuple[bytes, bool]:
    """Takes in what the pipe holds; returns the unfinished line, and whether there may be more."""
    while True:
        try:
            chunk = os.read(output, 65536)
        except BlockingIOError:
            return rest, True
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _take(line, outcome, log)
        if not chunk:
            _take(rest, outcome, log)
            return b"", False


def _take(line: bytes, outcome: Outcome, log: Callable[[bytes], object]) -> None:
    """One line of stdout: progress, a result, or words for the log."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        if line.strip():
            log(line + b"\n")
    elif "progress" in said:
        outcome.progress = float(said["progress"])
    else:
        outcome.result = said


def _last_line(log: Path) -> str:
    """The end of a log, for a reason that fits into one line."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        lines = stream.read().decode(errors="replace").split("\n")
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")


def make_final(out: Path, final: Path) -> None:
    """Gives what a trainer wrote its final name, after its bytes are on disk."""
    for path in [*out.rglob("*"), out]:
        fsync(path)
    out.rename(final)
