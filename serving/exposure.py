"""What the candidate and the incumbent of an open release did in traffic, told to the guardrails (core/exposures.py).

A chat only leaves a note when it ends; a background task sends the notes twice a second, so no chat ever waits for it.
Without Redis the newest ten thousand wait here, and those of a process that is killed are lost: guardrails count what
they see. Sides of comparisons are no traffic and leave none: two answers at once are slower, and pinned versions are
chosen by somebody who knows them.
"""

import asyncio
import logging
import secrets
from collections import deque

import redis.asyncio
from redis.exceptions import RedisError

from core import exposures, signs
from core.exposures import Ended
from core.records import CompletionRecord, CompletionState, now
from serving.assignment import Assignment
from serving.protocol import Capture, Sampled

SEND_INTERVAL_S = 0.5
_AT_ONCE = 500
_WAITING = 10_000

log = logging.getLogger("plumbline.exposure")


class Exposures:
    """The notes of this process."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._replica = secrets.token_hex(8)
        self._waiting: deque[Ended] = deque(maxlen=_WAITING)
        self._batch: list[Ended] = []
        """That is being sent: the same again under the same number until it is known to be counted."""
        self._number = 0

    def note(self, ended: Ended | None) -> None:
        """Never waits."""
        if ended is not None:
            self._waiting.append(ended)

    async def run(self) -> None:
        """Sends for ever."""
        while True:
            await asyncio.sleep(SEND_INTERVAL_S)
            await self.send()

    async def send(self) -> None:
        """All that waits, as far as Redis takes it."""
        while batch := self._next():
            try:
                await exposures.add(self._client, batch, replica=self._replica, batch=self._number)
            except (RedisError, TimeoutError, OSError) as error:
                log.warning("guardrails wait for %d completions: %s", len(batch) + len(self._waiting), error)
                return
            self._batch = []

    def _next(self) -> list[Ended]:
        """The batch that is to be sent: of one release, with a number of its own."""
        if not self._batch and self._waiting:
            release = self._waiting[0].release
            while self._waiting and len(self._batch) < _AT_ONCE and self._waiting[0].release == release:
                self._batch.append(self._waiting.popleft())
            self._number += 1
        return self._batch


def ended(
    assignment: Assignment,
    record: CompletionRecord,
    capture: Capture,
    state: CompletionState,
    *,
    finished: float | None,
) -> Ended | None:
    """The note of one chat; None if it is no traffic of an open release."""
    if assignment.release is None or assignment.how not in ("live", "canary") or record.comparison_id is not None:
        return None
    is_canary = assignment.how == "canary"
    choices = list(capture.choices.values())
    return Ended(
        release=assignment.release,
        arm="candidate" if is_canary else "incumbent",
        share=round(assignment.propensity if is_canary else 1 - assignment.propensity, 6),
        rater=record.rater,
        failed=state == CompletionState.FAILED,
        empty=state == CompletionState.COMPLETE and any(_is_empty(choice) for choice in choices),
        refuses=any(signs.refuses(choice.text) for choice in choices),
        loops=any(signs.loops(choice.token_ids) for choice in choices),
        cut_off=any(choice.finish_reason == "length" for choice in choices),
        tokens=max((len(choice.token_ids) for choice in choices), default=0),
        seconds=max(0.0, (finished or now()) - record.created),
    )


def _is_empty(choice: Sampled) -> bool:
    """A call of a tool is an answer too: it has tokens and text of its own."""
    return not choice.text.strip()
