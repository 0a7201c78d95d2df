"""The common pace of a blind comparison's sides, so that speed does not tell which policy writes which. Pure.

The rule. Answers are cut into words by their text alone (`Lane`). At each tick of a fixed grid all sides show their
first `front` words, one number for all, which is as far as the slowest side that is not over has come. Two bounds keep
a person from waiting for ever:

- a side that has been silent for `PATIENCE_S` no longer holds the others back; when it writes again, they wait for it
  to catch up;
- when the first side is over, the rest goes on at no more than the mean pace since the request: a side that was held
  back would otherwise rush ahead. But that is at least `TAIL_WORDS_PER_S`, which is more than people read.

What still tells: a side silent for longer than that, and a pace below `TAIL_WORDS_PER_S` that rises as one side ends.
How long an answer is, is part of the answer.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

TICK_S = 0.05
PATIENCE_S = 10.0
TAIL_WORDS_PER_S = 10.0
"""People read some four words a second."""

_WORD = re.compile(r"\s{8}|\s{0,7}(?:\S{8}|\S{1,7}(?=\s))")
"""At most eight characters that are no white space, so that languages without spaces flow too, and what stands before
them. Only what follows can tell that a shorter word is whole; where words end never depends on how the text came in."""


@dataclass(kw_only=True, slots=True)
class Lane:
    """One side: the words that it has written, and how many of them are shown."""

    changed: float
    """When it last wrote; monotonic seconds."""
    words: list[str] = field(default_factory=list)
    shown: int = 0
    ended: bool = False
    """Whether the answer is written to its end."""
    _rest: str = ""

    @property
    def over(self) -> bool:
        """Whether all of it, its end included, is shown."""
        return self.ended and self.shown == len(self.words)

    def write(self, text: str, *, now: float) -> None:
        self._rest += text
        end = 0
        while match := _WORD.match(self._rest, end):
            self.words.append(match[0])
            end = match.end()
        self._rest = self._rest[end:]
        self.changed = now

    def end(self) -> None:
        """No more will be written: what was left is the last word."""
        if self._rest:
            self.words.append(self._rest)
        self._rest, self.ended = "", True

    def show(self, front: int) -> str:
        """What becomes visible when the first `front` words are shown."""
        before, self.shown = self.shown, max(self.shown, min(front, len(self.words)))
        return "".join(self.words[before : self.shown])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ceiling:
    """A straight line that the front does not cross once a side is over."""

    since: float
    front: int
    words_per_s: float

    def at(self, now: float) -> int:
        return self.front + math.floor(self.words_per_s * (now - self.since))


class Lockstep:
    """How far all sides of one comparison are shown."""

    def __init__(self, lanes: Sequence[Lane], *, now: float) -> None:
        self._lanes = lanes
        self._started = now
        self._ceiling: _Ceiling | None = None
        self.front = 0

    def advance(self, now: float) -> list[str]:
        """One tick: what each side gains, `""` for nothing. `now` is on the clock of `Lane.changed`."""
        goal = self._goal(now)
        if self._ceiling is not None:
            goal = min(goal, self._ceiling.at(now))
        self.front = max(self.front, goal)
        gained = [lane.show(self.front) for lane in self._lanes]
        if self._ceiling is None and any(lane.over for lane in self._lanes):
            pace = max(TAIL_WORDS_PER_S, self.front / max(TICK_S, now - self._started))
            self._ceiling = _Ceiling(since=now, front=self.front, words_per_s=pace)
        return gained

    def _goal(self, now: float) -> int:
        reached = [len(lane.words) for lane in self._lanes if not lane.over and not self._is_stuck(lane, now)]
        return min(reached, default=self.front)

    def _is_stuck(self, lane: Lane, now: float) -> bool:
        return not lane.ended and len(lane.words) <= self.front and now - lane.changed >= PATIENCE_S
