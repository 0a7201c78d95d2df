"""Streamed chats by raw bytes, and when each piece of text arrived: closed loop, or open with Poisson arrivals.

As in `load.py` there is no HTTP client in between: requests are ready bytes, and of an answer only what is needed is
looked for. A piece is a server-sent event with text in it; two that arrive in one packet have the same time.
"""

import asyncio
import json
import random
import re
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import load

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_PIECE = re.compile(rb'"content": ?"(?!")')
_MODEL = re.compile(rb'"model": ?"([^"]*)"')
_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
_DONE, _LAST_CHUNK = b"data: [DONE]", b"0\r\n\r\n"


@dataclass(kw_only=True, slots=True)
class Answer:
    """One chat. Times are `time.perf_counter()`."""

    sent: float
    pieces: list[float] = field(default_factory=list)
    """When each arrived."""
    tokens: int = 0
    """As the server counted them."""
    model: str = ""
    failed: str = ""
    """Why it is not whole."""

    @property
    def ttft(self) -> float:
        return self.pieces[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in zip(self.pieces, self.pieces[1:], strict=False)]


@dataclass(kw_only=True, slots=True)
class Streams:
    """What came of all chats of one measurement."""

    answers: list[Answer]
    most_at_once: int
    client_share: float
    """Processor time of this process by clock time: near 1, it is the client that was measured."""
    processor_s: float = 0.0
    """Of the servers meanwhile; whoever knows them sets it."""

    @property
    def failed(self) -> list[str]:
        return [answer.failed for answer in self.answers if answer.failed]

    @property
    def tokens_per_s(self) -> float:
        """From the first request to the last piece."""
        started, ended = min(it.sent for it in self.answers), max(it.pieces[-1] for it in self.answers if it.pieces)
        return sum(answer.tokens for answer in self.answers) / (ended - started)

    @property
    def processor_ms_per_token(self) -> float:
        return self.processor_s * 1e3 / sum(answer.tokens for answer in self.answers)

    @property
    def ttft_p50(self) -> float:
        return statistics.median(answer.ttft for answer in self.answers if answer.pieces)

    @property
    def gap_p99(self) -> float:
        """Of all gaps between two pieces of one answer."""
        return p99([gap for answer in self.answers for gap in answer.gaps])


def p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def chat(model: str, prompt: str, *, tokens: int, **options: Any) -> bytes:
    """A streamed chat that samples exactly `tokens` tokens."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return load.post("/v1/chat/completions", json.dumps(body | options))


async def closed(port: int, requests: Iterable[bytes], *, streams: int, seen: set[str] | None = None) -> Streams:
    """Each of `streams` connections sends its next request when the answer to the one before is whole.

    Args:
        seen: gets the names of the models that have answered.
    """
    feed, answers = iter(requests), list[Answer]()

    async def client(connection: "_Connection") -> None:
        for request in feed:
            answers.append(await connection.ask(request))
            if seen is not None:
                seen.add(answers[-1].model)

    connections = [await _Connection.open(port) for _ in range(streams)]
    used, started = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client(connection) for connection in connections))
    share = (time.process_time() - used) / (time.perf_counter() - started)
    for connection in connections:
        connection.close()
    return Streams(answers=answers, most_at_once=streams, client_share=share)


async def opened(port: int, requests: Sequence[bytes], *, arrivals_per_s: float, seed: int) -> Streams:
    """Requests come when they come, whether or not those before have been answered: a Poisson process."""
    idle, running, most = list[_Connection](), 0, 0

    async def ask(request: bytes) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        connection = idle.pop() if idle else await _Connection.open(port)
        answer = await connection.ask(request)
        idle.append(connection)
        running -= 1
        return answer

    used, started = time.process_time(), time.perf_counter()
    asking = []
    for request, at in zip(requests, arrivals(arrivals_per_s, seed=seed), strict=False):
        await asyncio.sleep(started + at - time.perf_counter())
        asking.append(asyncio.create_task(ask(request)))
    answers = await asyncio.gather(*asking)
    share = (time.process_time() - used) / (time.perf_counter() - started)
    for connection in idle:
        connection.close()
    return Streams(answers=answers, most_at_once=most, client_share=share)


def arrivals(per_s: float, *, seed: int) -> Iterator[float]:
    """Times of a Poisson process, in seconds from its start; endless."""
    rng, at = random.Random(seed), 0.0
    while True:
        at += rng.expovariate(per_s)
        yield at


class _Connection(asyncio.Protocol):
    """One connection that is kept; after a failure it is opened anew."""

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        connection = cls()
        connection.port = port
        await connection._connect()
        return connection

    port: int
    _transport: Any
    _whole: asyncio.Future[None] | None = None

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.port)

    async def ask(self, request: bytes) -> Answer:
        if self._transport.is_closing():
            await self._connect()
        self._buffer, self._read, self._begun = bytearray(), 0, False
        self._whole = asyncio.get_running_loop().create_future()
        self._answer = Answer(sent=time.perf_counter())
        self._transport.write(request)
        await self._whole
        if self._answer.failed:
            self._transport.close()
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._buffer += data
        if not self._begun:
            self._begin()
        end = self._buffer.rfind(b"\n\n") + 2
        if end > self._read:
            pieces = len(_PIECE.findall(self._buffer, self._read, end))
            self._answer.pieces.extend([now] * pieces)
            self._read = end
        if self._buffer.endswith(_LAST_CHUNK):
            self._end()

    def _begin(self) -> None:
        """The status; an error has no stream."""
        status = _STATUS.match(self._buffer)
        if status is None:
            return
        self._begun = True
        if status[1] != b"200":
            self._finish(bytes(self._buffer[:500]).decode(errors="replace"))

    def _end(self) -> None:
        if model := _MODEL.search(self._buffer):
            self._answer.model = model[1].decode()
        if tokens := _TOKENS.search(self._buffer):
            self._answer.tokens = int(tokens[1])
        whole = _DONE in self._buffer and self._answer.tokens > 0
        self._finish("" if whole else bytes(self._buffer[-500:]).decode(errors="replace"))

    def _finish(self, failed: str) -> None:
        assert self._whole is not None
        if not self._whole.done():
            self._answer.failed = failed
            self._whole.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self._whole is not None and not self._whole.done():
            self._finish(f"the connection was lost: {error}")
