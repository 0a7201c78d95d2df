"""Who may come in: as many answers at once as the limit says, and no more; the others are told when to come back.

An engine that takes everything collapses: every answer becomes slow, all clients time out, and their retries do the
rest. vLLM runs some of the admitted answers and keeps the others waiting, so the limit bounds running and waiting
together; prompt tokens that wait are bounded by vLLM itself (`PLUMBLINE_MAX_QUEUED_TOKENS`).

When to come back follows from how fast answers end while all places are taken (by Little's law the places, divided by
how long an answer takes lately): each client that is turned away is given a place in time of its own, one behind the
other, so that they do not all return at once. Counts and a clock, no waiting; one per process.
"""

import time
from collections import deque
from collections.abc import Callable

from core import metrics
from core.errors import Overloaded

MEASURED = 64
"""Answers whose duration the drain rate is measured by."""
MOST_S = 60.0
"""The longest wait that is told: OpenAI's clients obey up to two minutes."""
CROWDED = 1 / 32
"""Share of the places: while more are taken, what nobody waits for is not done (serving/shadow.py)."""
_UNKNOWN_RATE = 1.0
"""Answers a second, before any has ended."""


class Admission:
    """How many answers are being written or wait to be.

    Args:
        limit: of them; every choice of `n` and every side of a comparison is one.
        clock: monotonic seconds.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._durations: deque[float] = deque(maxlen=MEASURED)
        self._promised = 0.0
        """Until when places are promised to those who were turned away."""
        self.inside = 0
        self.on_crowded: Callable[[], None] = lambda: None
        """Called whenever somebody comes in while it is crowded, before they are answered."""

    @property
    def is_crowded(self) -> bool:
        return self.inside > CROWDED * self._limit

    def enter(self, answers: int) -> None:
        """Takes places until `leave`.

        Raises:
            Overloaded: there are not so many; nothing is taken.
        """
        if self.inside + answers > self._limit:
            metrics.TURNED_AWAY.labels("answers").inc()
            raise self.overloaded(answers)
        self.inside += answers
        metrics.IN_FLIGHT.set(self.inside)
        if self.is_crowded:
            self.on_crowded()

    def leave(self, answers: int, *, since: float | None) -> None:
        """Gives the places back. `since`: when they were taken, on the clock; None: nothing came of it."""
        self.inside -= answers
        assert self.inside >= 0
        if since is not None:
            self._durations.append(self._clock() - since)
        metrics.IN_FLIGHT.set(self.inside)

    def overloaded(self, answers: int = 1) -> Overloaded:
        """What a client is told for whom there is no room, with a time to come back that is promised to nobody else."""
        now = self._clock()
        self._promised = min(max(self._promised, now) + answers / self.drain_rate(), now + MOST_S)
        message = f"{self.inside} answers are being written, which is as many as there is room for; try again later."
        return Overloaded(message, wait_s=self._promised - now)

    def drain_rate(self) -> float:
        """Answers a second that end while all places are taken."""
        if not self._durations:
            return _UNKNOWN_RATE
        return self._limit * len(self._durations) / max(sum(self._durations), 1e-3)
