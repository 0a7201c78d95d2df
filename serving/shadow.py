"""Shadow mode: now and then a candidate answers a chat too, after the user has their answer, and nobody sees it.

Only at the stage of a release that reaches nobody yet (core/releases.py `SHADOW`), only chats that were answered whole,
whose text is kept and may be trained on, and one at a time while hardly anybody else is being answered: as soon as more
come in it is cut off. It takes no place in admission, counts against no quota and leaves no record of its own; what was
said is put beside the record of the chat (core/shadow.py), where the worker's judge finds it.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from core import metrics, shadow
from core.records import CompletionRecord, new_id, policy_name
from core.shadow import ShadowAnswer
from serving.admission import Admission
from serving.protocol import Capture, Engine
from serving.swap import Replica

LOOK_S = 0.1
"""Between two looks whether there is room."""
_QUEUE = 16
"""Chats that may wait for room; then the oldest are forgotten."""
_TIMEOUT_S = 2.0

log = logging.getLogger("plumbline.shadow")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """One chat that is to be answered once more."""

    release: str
    completion: str
    rater: str | None
    fields: dict[str, Any]
    """As the engine got them."""


class Shadows:
    """The unseen answers of this process.

    Args:
        share: of chats that are answered once more.
    """

    def __init__(
        self,
        engine: Engine,
        replica: Replica,
        admission: Admission,
        client: redis.asyncio.Redis,
        *,
        share: float,
    ) -> None:
        self._engine = engine
        self._replica = replica
        self._admission = admission
        self._client = client
        self._share = share
        self._waiting: deque[_Asked] = deque(maxlen=_QUEUE)
        self._writing: asyncio.Task[bool] | None = None
        admission.on_crowded = self.give_way

    def draw(self, record: CompletionRecord, choices: int, fields: dict[str, Any]) -> dict[str, Any] | None:
        """What is to be asked once more when the chat has ended well; None if it is not to be."""
        is_its_stage = record.assignment == "live" and record.release is not None and record.propensity == 1.0
        may_be = is_its_stage and record.train and bool(record.messages) and choices == 1
        return fields if may_be and random.random() < self._share else None

    def offer(self, record: CompletionRecord, fields: Mapping[str, Any]) -> None:
        """A chat that was drawn, and that its user has the answer to. Never waits."""
        assert record.release is not None
        asked = {name: value for name, value in fields.items() if name not in ("stream", "stream_options")}
        self._waiting.append(_Asked(release=record.release, completion=record.id, rater=record.rater, fields=asked))

    async def run(self) -> None:
        """Answers what waits, for ever, one after the other and only where there is room."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                while self._waiting and not self._admission.is_crowded:
                    await self._attempt(self._waiting.pop())
        finally:
            self.give_way()

    def close(self) -> None:
        """Nothing more is answered, so that a stop waits for users only."""
        self._share = 0.0
        self._waiting.clear()
        self.give_way()

    def give_way(self) -> None:
        """Cuts off what is being written."""
        if self._writing is not None:
            self._writing.cancel()

    async def _attempt(self, asked: _Asked) -> None:
        self._writing = asyncio.create_task(self._write(asked))
        await asyncio.wait({self._writing})
        done, self._writing = self._writing, None
        if done.cancelled():
            metrics.SHADOWS.labels("gave_way").inc()
        elif error := done.exception():
            log.warning("an unseen answer failed: %s", error)
            metrics.SHADOWS.labels("failed").inc()
        else:
            metrics.SHADOWS.labels("written" if done.result() else "dropped").inc()

    async def _write(self, asked: _Asked) -> bool:
        """Whether the answer lies where the judge finds it."""
        residents = self._replica.residents
        canary = residents.canary if residents is not None else None
        if canary is None or canary.release != asked.release or canary.share > 0:
            return False
        token_ids = await self._answer(policy_name(canary.version), asked.fields)
        answer = ShadowAnswer(release=asked.release, token_ids=token_ids)
        async with asyncio.timeout(_TIMEOUT_S):
            return await shadow.put(self._client, answer, completion=asked.completion, rater=asked.rater)

    async def _answer(self, model: str, fields: dict[str, Any]) -> list[int]:
        assignment, capture = self._replica.acquire(model), Capture()
        try:
            request = self._engine.parse(fields | {"model": model})
            name = new_id("chatcmpl-")  # nobody is told of it, but by such ids the engine knows its captures
            await self._engine.answer(request, model=assignment.name, completion_id=name, capture=capture)
        finally:
            self._replica.release(assignment)
        return capture.choices[0].token_ids
