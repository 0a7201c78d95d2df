"""Progress of a trainer: a bar for a person, JSON lines for the worker that started it.

On a pipe each line is `{"progress": 0.42, "message": "DPO", …}`, at most twice a second; the worker copies the progress
into the run's record. Progress is of the whole program: each of its loops names the share that it covers.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_PAUSE_S = 0.5


class Bar:
    """A bar over `total` items that shows figures beside it: `with Bar("DPO", total=80) as bar: bar.advance(loss=.6)`.

    Args:
        share: the part of the program's progress that this bar covers, e.g. (0.1, 0.8).
        done: items that an earlier attempt has done.
    """

    def __init__(self, message: str, *, total: int, share: tuple[float, float] = (0.0, 1.0), done: int = 0) -> None:
        self._message = message
        self._total = total
        self._share = share
        self._done = done
        self._spoke = 0.0
        self._silent = os.environ.get("RANK", "0") != "0"  # of torchrun's processes the first one speaks
        self._bar: Progress | None = None
        if sys.stdout.isatty() and not self._silent:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[figures]}"), transient=True)
            self._task = self._bar.add_task(message, total=total, completed=done, figures="")

    def __enter__(self) -> "Bar":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            self._say(self._share[1], {})

    def advance(self, **figures: float) -> None:
        """One more item is done."""
        self._done += 1
        if self._bar is not None:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self._bar.update(self._task, advance=1, figures=shown)
        elif time.monotonic() - self._spoke >= _PAUSE_S:
            self._spoke = time.monotonic()
            low, high = self._share
            self._say(low + (high - low) * self._done / max(self._total, 1), figures)

    def _say(self, progress: float, figures: Mapping[str, float]) -> None:
        """One line for the worker."""
        if self._silent:
            return
        line = {"progress": round(progress, 3), "message": self._message, **figures}
        print(json.dumps(line), flush=True)


def track(
    items: Iterable[T], message: str, *, total: int | None = None, share: tuple[float, float] = (0.0, 1.0)
) -> Iterator[T]:
    """Hands the items on and reports how far it is.

    Args:
        total: number of items, where `len` does not know it.
        share: the part of the program's progress that this loop covers.
    """
    count = len(items) if total is None else total  # type: ignore[arg-type]
    with Bar(message, total=count, share=share) as bar:
        for item in items:
            yield item
            bar.advance()
