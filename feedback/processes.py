"""Pure work on many chunks, in several processes, with the results in the order of the chunks.

The processes are forked, so that what all chunks need (a log, an index, what a vote is judged by) is there without
being copied or pickled: only a chunk's name goes in and only its result comes out. A thread that holds a lock at that
moment holds it for ever in the child; so this is for programs that do one thing at a time, as the scheduler does.
"""

import contextlib
import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

_AHEAD = 4
"""Results a process may be ahead of who takes them: they are held meanwhile."""
_T = TypeVar("_T")
_R = TypeVar("_R")
_work: Callable[[Any], Any]


def usable() -> int:
    """Cores that this process may use; 1 where it cannot fork."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collections: of a long log they would look at millions of objects again and again, and there are
    no cycles among them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def in_order(work: Callable[[_T], _R], chunks: Iterable[_T], *, processes: int) -> Iterator[_R]:
    """`map(work, chunks)`, by so many processes; by this one if that is 1. Errors of `work` are raised here.

    Raises:
        BrokenProcessPool: one of them was killed.
    """
    if processes == 1:
        yield from map(work, chunks)
        return
    gc.freeze()  # a collection in a child would touch, and so copy, every page
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_inherit, initargs=(work,)) as pool:
            yield from _ordered(pool, chunks, ahead=_AHEAD * processes)
    finally:
        gc.unfreeze()


def _ordered(pool: ProcessPoolExecutor, chunks: Iterable[Any], *, ahead: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_run, chunk))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _inherit(work: Callable[[Any], Any]) -> None:
    global _work  # of this process alone, which does nothing else
    _work = work


def _run(chunk: Any) -> Any:
    return _work(chunk)
