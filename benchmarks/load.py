"""Closed-loop load by raw bytes: so cheap that the server is measured and not its client.

Each connection sends its next request when the answer to the one before is whole. There is no HTTP client in between
(they cost more than the server under test); what is sent is ready bytes, and of an answer only its end is looked for.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)

End = Callable[[bytearray], int]
"""Where the first answer in the bytes ends; 0 while it is not whole."""
Connect = Callable[[Callable[[], asyncio.Protocol]], Coroutine[Any, Any, Any]]


@dataclass(kw_only=True, slots=True)
class Load:
    """What came of the requests, in their order."""

    answers: list[bytes]
    latencies_s: list[float]
    seconds: float = 0.0
    """From the first request to the last answer."""
    client_share: float = 0.0
    """Processor time of this process by clock time: near 1, it is the client that was measured."""


async def run(connect: Connect, requests: Sequence[bytes], *, connections: int, end: End) -> Load:
    """Sends all requests over that many connections.

    Raises:
        ConnectionError: the server closed a connection.
    """
    load = Load(answers=[b""] * len(requests), latencies_s=[0.0] * len(requests))
    feed = enumerate(requests)
    senders = [_Sender(feed, load, end) for _ in range(connections)]
    for sender in senders:
        await connect(lambda sender=sender: sender)  # type: ignore[misc]
    started, used = time.perf_counter(), time.process_time()
    for sender in senders:
        sender.send_next()
    await asyncio.gather(*(sender.done for sender in senders))
    load.seconds = time.perf_counter() - started
    load.client_share = (time.process_time() - used) / load.seconds
    return load


class _Sender(asyncio.Protocol):
    """One connection."""

    def __init__(self, feed: Iterator[tuple[int, bytes]], load: Load, end: End) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._feed, self._load, self._end = feed, load, end
        self._received = bytearray()
        self._index, self._sent = 0, 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send_next(self) -> None:
        following = next(self._feed, None)
        if following is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._index, request = following
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if length := self._end(self._received):
            self._load.latencies_s[self._index] = time.perf_counter() - self._sent
            self._load.answers[self._index] = bytes(self._received[:length])
            del self._received[:length]
            self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))


# --- HTTP/1.1 ---------------------------------------------------------------------------------------------------------


def post(path: str, body: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body.encode())}\r\n\r\n{body}".encode()


def http_end(received: bytearray) -> int:
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return 0
    length = _LENGTH.search(received, 0, head + 2)
    assert length is not None, "an answer without Content-Length"
    end = head + 4 + int(length[1])
    return end if len(received) >= end else 0


# --- Redis ------------------------------------------------------------------------------------------------------------


def resp(parts: Sequence[str | int]) -> bytes:
    """A command in Redis's protocol (RESP 2)."""
    encoded = [str(part).encode() for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)


def resp_end(received: bytearray, start: int = 0) -> int:
    """The end of the reply that begins at `start`; 0 while it is not whole."""
    line = received.find(b"\r\n", start)
    if line < 0:
        return 0
    kind, after = received[start : start + 1], line + 2
    if kind == b"$":
        length = int(received[start + 1 : line])
        end = after + length + 2 if length >= 0 else after
        return end if len(received) >= end else 0
    if kind == b"*":
        for _ in range(int(received[start + 1 : line])):
            after = resp_end(received, after)
            if not after:
                return 0
    return after
