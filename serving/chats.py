"""One answered chat, from the choice of its version to its final record; endpoints and comparisons both go through it.

The record is written while the engine reads the prompt, is there before the first words leave, and is closed before
the last ones do: no vote can come early, and nobody waits for the disk in front of an idle engine.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from core import keys, metrics, tracing
from core.access import DEPLOYMENT, Caller
from core.errors import ApiError, InvalidRequest, Overloaded
from core.quotas import Allowance, Quotas
from core.records import Choice, CompletionRecord, CompletionState, StoredRequest, new_id, now
from serving import traces
from serving.admission import Admission
from serving.assignment import Assignment
from serving.completions import CompletionLog
from serving.exposure import Exposures, ended
from serving.protocol import Capture, ChatRequest, Engine
from serving.request_fields import check, for_engine
from serving.schemas import ChatBody
from serving.shadow import Shadows
from serving.shown import Shown, stored_request
from serving.swap import Replica


@dataclass(kw_only=True, slots=True)
class Chat:
    """One chat in flight."""

    request: ChatRequest
    assignment: Assignment
    record: CompletionRecord
    """As it was opened."""
    keeps_text: bool
    allowance: Allowance | None = None
    """What it is counted against; None for what is nobody's request."""
    stored: StoredRequest | None = None
    """What the stored completion needs besides its record, as it was asked."""
    shown: Shown | None = None
    """Follows the answer where it may differ from what was sampled: tools may be called."""
    unseen: dict[str, Any] | None = None
    """What a candidate is to be asked too, unseen, once this has ended well."""
    opening: asyncio.Task[None] | None = None
    """The write of the open record, while nobody has waited for it."""
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
    trace: Any = field(default_factory=tracing.here)
    """Where its span belongs (serving/traces.py)."""

    @property
    def headers(self) -> dict[str, str]:
        return {
            "x-policy-version": str(self.assignment.version),
            "x-adapter-sha256": self.assignment.adapter_sha256,
            "x-feedback-status": "recorded" if self.recorded else "unavailable",
            **(
                {"x-release": f"{self.assignment.release}; arm={self.assignment.how}"}
                if self.assignment.release
                else {}
            ),
        }


class Chats:
    """All chats of this process."""

    def __init__(
        self,
        engine: Engine,
        replica: Replica,
        records: CompletionLog,
        exposures: Exposures,
        quotas: Quotas,
        *,
        admission: Admission,
        shadows: Shadows,
        train_by_default: bool,
        stall_s: float,
    ) -> None:
        self._engine = engine
        self._replica = replica
        self._records = records
        self._exposures = exposures
        self.quotas = quotas
        self._train_by_default = train_by_default
        self._admission = admission
        self._shadows = shadows
        self.stall_s = stall_s
        """A stream that nobody has read from for so long is cut off."""
        self._writes: set[asyncio.Task[None]] = set()

    def open(self, body: ChatBody, *, caller: Caller, assignment: Assignment) -> Chat:
        """Checks the request and begins to write its record; who opens a chat answers or streams it, or calls `end`.

        `assignment` was acquired from the replica and is the chat's from here on, also when this fails.

        Raises:
            InvalidRequest: the body is not a chat that the engine accepts.
            Overloaded: there is no room for it now.
        """
        try:
            chat = self.prepare(body, caller=caller, assignment=assignment)
        except BaseException:
            self._replica.release(assignment)
            raise
        chat.opening = self._later(self._open_record(chat))
        return chat

    def prepare(
        self, body: ChatBody, *, caller: Caller, assignment: Assignment, comparison_id: str | None = None
    ) -> Chat:
        """Checks the request and makes room for it. Its record is not written yet, and `assignment` stays the caller's
        if this fails.

        Raises:
            InvalidRequest: the body is not a chat that the engine accepts.
            Overloaded: there is no room for it now.
        """
        fields = body.model_dump(exclude_unset=True)
        check(fields)
        asked = for_engine(fields) | _cache_salt(caller)
        request = self._engine.parse(asked)
        chat = self._new(body, caller, request, assignment, comparison_id)
        chat.unseen = self._shadows.draw(chat.record, request.choices, asked)
        self._admission.enter(request.choices)  # last: what follows ends with `end` or `turn_away`
        return chat

    def turn_away(self, chat: Chat) -> None:
        """Gives up a prepared chat that never began; its `assignment` stays the caller's."""
        chat.ended = True
        self._admission.leave(chat.request.choices, since=None)

    async def answer(self, chat: Chat) -> dict[str, Any]:
        """The whole answer, its record written."""
        try:
            body = await self._engine.answer(
                chat.request, model=chat.assignment.name, completion_id=chat.record.id, capture=chat.capture
            )
            chat.finished = now()
            if chat.shown is not None:
                chat.shown.take(body["choices"])
            await self.close(chat)
        except ApiError as error:
            chat.error = self._told(error)
            raise chat.error from error
        finally:
            self.end(chat)
        return body | {"system_fingerprint": f"fp_{chat.assignment.adapter_sha256[:12]}"}

    async def stream(self, chat: Chat) -> AsyncGenerator[str, None]:
        """The chunks; the record is written before the chunk that ends the answer is given out."""
        try:
            async with aclosing(self.chunks(chat)) as chunks:
                async for chunk in chunks:
                    if chat.opening is not None:
                        await self._opened(chat)
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
                    if chat.shown is not None:
                        chat.shown.take(json.loads(chunk)["choices"])
                    yield chunk
        except ApiError as error:
            chat.error = self._told(error)
            raise chat.error from error

    async def drain(self) -> None:
        """Waits for the final records that are still being written."""
        while self._writes:
            await asyncio.wait(self._writes)
        await self.quotas.drain()

    def _new(
        self, body: ChatBody, caller: Caller, request: ChatRequest, assignment: Assignment, comparison_id: str | None
    ) -> Chat:
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
            release=assignment.release,
            rater=caller.rater(body.rater),
            train=body.may_train(by_default=self._train_by_default) and text is not None,
            metadata=(body.metadata or {}) if keeps_text else {},
            comparison_id=comparison_id,
            tenant=caller.tenant,
            regenerates=body.regenerates,
        )
        stored = stored_request(body)
        shown = Shown() if stored is not None and "tools" in stored.fields else None
        return Chat(
            request=request, assignment=assignment, record=record, keeps_text=keeps_text, stored=stored, shown=shown
        )

    async def close(self, chat: Chat) -> None:
        """The final write; never longer than the record log's own limits."""
        await self._opened(chat)
        if chat.recorded:
            chat.recorded = await self._records.close(_final(chat), _stored(chat))
        chat.closed = True  # only now: a write that the client's hanging up cut short is made again by `end`

    def end(self, chat: Chat) -> None:
        """Gives the version free and settles the record. Counts once, never waits: the client may have gone away."""
        if chat.ended:
            return
        chat.ended = True
        self._replica.release(chat.assignment)
        if chat.allowance is not None:
            self.quotas.end(chat.allowance, prompt_tokens=_prompt_tokens(chat), completion_tokens=_sampled_tokens(chat))
        refused = isinstance(chat.error, InvalidRequest | Overloaded)
        self._admission.leave(chat.request.choices, since=None if refused else chat.started)
        if (chat.opening is not None or chat.recorded) and not chat.closed:
            self._later(self._discard(chat) if refused else self.close(chat))
        if not refused:
            traces.note(chat)
            _count(chat)
            self._exposures.note(
                ended(chat.assignment, chat.record, chat.capture, _state(chat), finished=chat.finished)
            )
        if chat.unseen is not None and chat.closed and chat.recorded and _state(chat) is CompletionState.COMPLETE:
            self._shadows.offer(chat.record, chat.unseen)

    def _told(self, error: ApiError) -> ApiError:
        """vLLM knows that too many tokens wait, but not for how long."""
        if not isinstance(error, Overloaded):
            return error
        metrics.TURNED_AWAY.labels("tokens").inc()
        return self._admission.overloaded()

    async def _open_record(self, chat: Chat) -> None:
        chat.recorded = await self._records.open([chat.record])

    async def _opened(self, chat: Chat) -> None:
        """Returns when it is known whether the open record lies in Redis; a caller who is cancelled leaves the write
        to go on."""
        if chat.opening is not None:
            await asyncio.shield(chat.opening)
            chat.opening = None

    async def _discard(self, chat: Chat) -> None:
        await self._opened(chat)
        if chat.recorded:
            await self._records.discard(keys.completion(chat.record.id))

    def _later(self, writing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(writing)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task


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
            logprobs=(sampled.logprobs or None) if chat.keeps_text else None,
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


def _prompt_tokens(chat: Chat) -> int:
    return len(chat.capture.prompt_token_ids)


def _sampled_tokens(chat: Chat) -> int:
    return sum(len(choice.token_ids) for choice in chat.capture.choices.values())


def _cache_salt(caller: Caller) -> dict[str, str]:
    """vLLM shares cached prefixes among requests with one salt. Each tenant has its own, and each visitor of the page,
    so that nobody else can tell by the time to the first token what they asked before; a client's own is refused
    (serving/request_fields.py)."""
    if caller.visitor:
        return {"cache_salt": hashlib.sha256(f"visitor {caller.visitor}".encode()).hexdigest()}
    if caller.tenant == DEPLOYMENT:
        return {}
    return {"cache_salt": hashlib.sha256(f"tenant {caller.tenant}".encode()).hexdigest()}


def _stored(chat: Chat) -> StoredRequest | None:
    if chat.stored is None or chat.shown is None:
        return chat.stored
    return chat.stored.model_copy(update={"answers": chat.shown.answers, "reasons": chat.shown.reasons})


def _count(chat: Chat) -> None:
    metrics.CHATS.labels(str(_state(chat))).inc()
    metrics.TOKENS.labels("prompt").inc(_prompt_tokens(chat))
    metrics.TOKENS.labels("completion").inc(_sampled_tokens(chat))
    if chat.capture.first_token is not None:
        metrics.TTFT.observe(chat.capture.first_token - chat.started)
