"""Server-sent events of chats and comparisons, and what becomes of a reader who stops reading.

A socket takes some tens of kilobytes ahead of its reader; then `send` waits, and the engine writes on without anybody
taking its words. So when nothing could be sent for `stall_s` the answer is aborted, which frees its place in the
engine. A reader who comes back finds what was on its way, then an error event, and no `[DONE]`; of one who does not,
only the socket's own buffer stays, until the connection ends.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Self

from fastapi.responses import StreamingResponse
from starlette.types import Send

from core import metrics
from core.errors import ApiError


class EventStream(StreamingResponse):
    """A response of events that were made by `server_sent_events`.

    Args: `stall_s`: how long one event may take to be sent.
    """

    def __init__(
        self,
        events: AsyncGenerator[str, None],
        *,
        stall_s: float,
        headers: Mapping[str, str],
        status_code: int = 200,
    ) -> None:
        super().__init__(events, status_code=status_code, headers=headers, media_type="text/event-stream")
        self._events = events
        self._stall_s = stall_s

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            with _Patience(self._stall_s) as patience:
                async for event in self._events:
                    patience.waits_since = patience.now()
                    await _send(send, event, more=True)
                    patience.waits_since = None
                patience.waits_since = patience.now()
                await _send(send, "", more=False)
        except TimeoutError:
            metrics.STALLED.inc()
            await self._events.aclose()
            with contextlib.suppress(TimeoutError):  # the connection is closed if this cannot be sent either
                async with asyncio.timeout(self._stall_s):
                    await _send(send, _event(_stalled(self._stall_s)), more=False)


class _Patience:
    """Ends its block with TimeoutError once the task has waited for a reader for `seconds`. As `asyncio.timeout` around
    each event, with one timer for all: setting one for every token is a twentieth of what the process does."""

    def __init__(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._loop, self._seconds = loop, seconds
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled_before, self._lost = task, task.cancelling(), False
        self.now = loop.time
        self.waits_since: float | None = None

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._seconds, self._look)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._lost and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError

    def _look(self) -> None:
        waited = 0.0 if self.waits_since is None else self.now() - self.waits_since
        if waited < self._seconds:
            self._timer = self._loop.call_later(self._seconds - waited, self._look)
        else:
            self._lost = True
            self._task.cancel()


async def _send(send: Send, event: str, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": event.encode(), "more_body": more})


async def server_sent_events(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """One event for each piece of JSON. A stream that breaks inside ends with an error event and without `[DONE]`."""
    try:
        yield f"data: {first}\n\n"
        async for chunk in rest:
            yield f"data: {chunk}\n\n"
        yield "data: [DONE]\n\n"
    except ApiError as error:
        metrics.STREAMS_BROKEN.inc()
        yield _event(error)
    finally:
        await rest.aclose()


def _event(error: ApiError) -> str:
    return f"data: {json.dumps(error.body())}\n\n"


def _stalled(stall_s: float) -> ApiError:
    return ApiError(f"Nothing was read for {stall_s:g} s, so the answer was cut off.", code="reader_stalled")
