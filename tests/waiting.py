"""Waiting for what other processes and threads do: until it holds, not for a time that is hoped to be enough."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within_s: float = 60.0, every_s: float = 0.05) -> T:
    """The first true value of `condition`; fails after `within_s`, which is generous: a busy machine is no fault."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s"
        time.sleep(every_s)
    return value
