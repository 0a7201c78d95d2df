"""Progress of a trainer: a bar for a person, JSON lines for the worker that started it.

On a pipe each line is `{"progress": 0.42, "message": "DPO"}`, at most twice a second; the worker copies them into the
run's record. Progress is of the whole program: each of its loops names the share that it covers.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import track as rich_track

T = TypeVar("T")
_PAUSE_S = 0.5


def track(
    items: Iterable[T], message: str, *, total: int | None = None, share: tuple[float, float] = (0.0, 1.0)
) -> Iterator[T]:
    """Hands the items on and reports how far it is.

    Args:
        total: number of items, where `len` does not know it.
        share: the part of the program's progress that this loop covers, e.g. (0.1, 0.8).
    """
    count = len(items) if total is None else total  # type: ignore[arg-type]
    if sys.stdout.isatty():
        yield from rich_track(items, description=message, total=count, transient=True)
        return
    spoke = 0.0
    for done, item in enumerate(items):
        if time.monotonic() - spoke >= _PAUSE_S:
            spoke = time.monotonic()
            say(share[0] + (share[1] - share[0]) * done / max(count, 1), message)
        yield item
    say(share[1], message)


def say(progress: float, message: str) -> None:
    """One line for the worker."""
    print(json.dumps({"progress": round(progress, 3), "message": message}), flush=True)
