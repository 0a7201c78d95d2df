"""One answered chat, from the choice of its version to its final record; endpoints and comparisons both go through it.

The record is opened before the engine is called and closed before the last words leave, so no vote can come early.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from core import keys, metrics
from core.errors import ApiError, InvalidRequest
from core.records import Choice, CompletionRecord, CompletionState, new_id, now
from serving.assignment import Assignment
from serving.completions import CompletionLog
from serving.protocol import Capture, ChatRequest, Engine
from serving.schemas import ChatBody
from serving.swap import Replica


@dataclass(kw_only=True, slots=True)
class Chat:
    """One chat in flight."""

    request: ChatRequest
    assignment: Assignment
    record: CompletionRecord
    """As it was opened."""
    keeps_text: bool
    recorded: bool = False
    """Whether the open record lies in Redis."""
    error: ApiError | None = None
    finished: float | None = None
    """When its last token was sampled; this process's clock."""
    closed: bool = False
    """Whether the final record was written, or given up."""
    ended: bool = False
    capture: Capture = field(default_factory=Capture)
    started: float = field(default_factory=time.monotonic)

    @property
    def headers(self) -> dict[str, str]:
        return {
            "x-policy-version": str(self.assignment.version),
            "x-adapter-sha256": self.assignment.adapter_sha256,
            "x-feedback-status": "recorded" if self.recorded else "unavailable",
        }


class Chats:
    """All chats of this process."""

    def __init__(self, engine: Engine, replica: Replica, records: CompletionLog, *, train_by_default: bool) -> None:
        self._engine = engine
        self._replica = replica
        self._records = records
        self._train_by_default = train_by_default
        self._writes: set[asyncio.Task[None]] = set()

    async def open(self, body: ChatBody, *, assignment: Assignment) -> Chat:
        """Checks the request and opens its record; who opens a chat answers or streams it, or calls `end`.

        `assignment` was acquired from the replica and is the chat's from here on, also when this fails.

        Raises:
            InvalidRequest: the body is not a chat that the engine accepts.
        """
        try:
            chat = self.prepare(body, assignment=assignment)
            chat.recorded = await self._records.open([chat.record])
        except BaseException:
            self._replica.release(assignment)
            raise
        return chat

    def prepare(self, body: ChatBody, *, assignment: Assignment, comparison_id: str | None = None) -> Chat:
        """Checks the request. Its record is not written yet, and `assignment` stays the caller's if this fails.

        Raises:
            InvalidRequest: the body is not a chat that the engine accepts.
        """
        request = self._engine.parse(body.model_dump(exclude_unset=True, exclude={"store", "train", "metadata"}))
        return self._new(body, request, assignment, comparison_id)

    async def answer(self, chat: Chat) -> dict[str, Any]:
        """The whole answer, its record written."""
        try:
            body = await self._engine.answer(
                chat.request, model=chat.assignment.name, completion_id=chat.record.id, capture=chat.capture
            )
            chat.finished = now()
            await self.close(chat)
        except ApiError as error:
            chat.error = error
            raise
        finally:
            self.end(chat)
        return body | {"system_fingerprint": f"fp_{chat.assignment.adapter_sha256[:12]}"}

    async def stream(self, chat: Chat) -> AsyncGenerator[str, None]:
        """The chunks; the record is written before the chunk that ends the answer is given out."""
        try:
            async with aclosing(self.chunks(chat)) as chunks:
                async for chunk in chunks:
                    if chat.finished is not None and not chat.closed:
                        await self.close(chat)
                    yield chunk
        finally:
            self.end(chat)

    async def chunks(self, chat: Chat) -> AsyncGenerator[str, None]:
        """The chunks as the engine gives them. Who takes them calls `close` before showing the end, and then `end`."""
        chunks = self._engine.stream(
            chat.request, model=chat.assignment.name, completion_id=chat.record.id, capture=chat.capture
        )
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if chat.capture.finished and chat.finished is None:
                        chat.finished = now()
                    yield chunk
        except ApiError as error:
            chat.error = error
            raise

    async def drain(self) -> None:
        """Waits for the final records that are still being written."""
        while self._writes:
            await asyncio.wait(self._writes)

    def _new(self, body: ChatBody, request: ChatRequest, assignment: Assignment, comparison_id: str | None) -> Chat:
        text = body.text
        keeps_text = body.store is not False
        record = CompletionRecord(
            id=new_id("chatcmpl-"),
            state=CompletionState.STREAMING,
            created=now(),
            messages=(text or []) if keeps_text else [],
            policy_version=assignment.version,
            adapter_sha256=assignment.adapter_sha256,
            assignment="comparison" if comparison_id else assignment.how,
            propensity=assignment.propensity,
            rater=body.rater,
            train=body.may_train(by_default=self._train_by_default) and text is not None,
            metadata=(body.metadata or {}) if keeps_text else {},
            comparison_id=comparison_id,
        )
        return Chat(request=request, assignment=assignment, record=record, keeps_text=keeps_text)

    async def close(self, chat: Chat) -> None:
        """The final write; never longer than the record log's own limit."""
        if chat.recorded:
            chat.recorded = await self._records.close(_final(chat))
        chat.closed = True  # only now: a write that the client's hanging up cut short is made again by `end`

    def end(self, chat: Chat) -> None:
        """Gives the version free and settles the record. Counts once, never waits: the client may have gone away."""
        if chat.ended:
            return
        chat.ended = True
        self._replica.release(chat.assignment)
        refused = isinstance(chat.error, InvalidRequest)
        if chat.recorded and not chat.closed:
            self._later(self._records.discard(keys.completion(chat.record.id)) if refused else self.close(chat))
        if not refused:
            _count(chat)

    def _later(self, writing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(writing)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)


def _state(chat: Chat) -> CompletionState:
    if chat.capture.finished:
        return CompletionState.COMPLETE
    return CompletionState.FAILED if chat.error or chat.capture.error else CompletionState.ABORTED


def _final(chat: Chat) -> CompletionRecord:
    choices = [
        Choice(
            index=index,
            text=sampled.text if chat.keeps_text else "",
            token_ids=sampled.token_ids if chat.keeps_text else [],
            logprobs=sampled.logprobs if chat.keeps_text else None,
            finish_reason=sampled.finish_reason,
        )
        for index, sampled in sorted(chat.capture.choices.items())
    ]
    changes: dict[str, Any] = {
        "state": _state(chat),
        "choices": choices,
        "sampling": chat.capture.sampling,
        "finished": chat.finished,
    }
    if chat.keeps_text:
        changes["prompt_token_ids"] = chat.capture.prompt_token_ids
    return chat.record.model_copy(update=changes)


def _count(chat: Chat) -> None:
    metrics.CHATS.labels(str(_state(chat))).inc()
    metrics.TOKENS.labels("prompt").inc(len(chat.capture.prompt_token_ids))
    metrics.TOKENS.labels("completion").inc(sum(len(choice.token_ids) for choice in chat.capture.choices.values()))
    if chat.capture.first_token is not None:
        metrics.TTFT.observe(chat.capture.first_token - chat.started)
