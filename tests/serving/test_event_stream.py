"""A reader who stops reading: the answer is aborted, what is kept for the reader is bounded, the end is clear."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from core import keys
from core.errors import Unavailable
from serving.event_stream import EventStream, server_sent_events
from tests.serving import policies
from tests.serving.conftest import FakeStack

WORDS = 60_000
"""Some 9 MB of events: more than sockets hold."""


class Reader:
    """Stands where the server's `send` would be; takes `takes` events, then waits until `reading`."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.messages: list[Any] = []
        self.reading = asyncio.Event()

    async def send(self, message: Any) -> None:
        if len(self.messages) >= self.takes:
            await self.reading.wait()
        self.messages.append(message)


async def _chunks(ended: list[bool]) -> AsyncGenerator[str, None]:
    try:
        for number in range(5):
            yield str(number)
    finally:
        ended.append(True)


def _bodies(reader: Reader) -> list[str]:
    return [message["body"].decode() for message in reader.messages if "body" in message]


async def _stream(reader: Reader) -> list[bool]:
    ended: list[bool] = []
    stream = EventStream(server_sent_events("first", _chunks(ended)), stall_s=0.05, headers={})
    await stream.stream_response(reader.send)
    return ended


async def _breaking() -> AsyncGenerator[str, None]:
    yield "1"
    raise Unavailable("The engine went away.")


def test_a_stream_that_breaks_says_so_and_is_counted() -> None:
    """An error event, no `[DONE]`; what its 200 cannot say any more stands in a counter."""
    before = REGISTRY.get_sample_value("plumbline_streams_broken_total")
    assert before is not None

    async def events() -> list[str]:
        return [event async for event in server_sent_events("0", _breaking())]

    *said, last = asyncio.run(events())
    assert said == ["data: 0\n\n", "data: 1\n\n"]
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "The engine went away."
    assert REGISTRY.get_sample_value("plumbline_streams_broken_total") == before + 1


def test_a_reader_who_reads_gets_all() -> None:
    """Each event, then `[DONE]`, then the end."""
    reader = Reader(100)
    assert asyncio.run(_stream(reader)) == [True]
    assert _bodies(reader) == [f"data: {word}\n\n" for word in ("first", *"01234", "[DONE]")] + [""]
    assert [message.get("more_body") for message in reader.messages[-2:]] == [True, False]


def test_a_reader_who_stops_costs_the_answer() -> None:
    """The source is closed; nothing more is sent, and the response stays open-ended, so that the server cuts it."""
    reader = Reader(3)
    assert asyncio.run(_stream(reader)) == [True]
    assert _bodies(reader) == ["data: first\n\n", "data: 0\n\n"]
    assert reader.messages[-1]["more_body"] is True


def test_a_reader_who_comes_back_is_told() -> None:
    """An error event takes the place of the rest and of `[DONE]`."""

    async def late() -> Reader:
        reader = Reader(3)
        asyncio.get_running_loop().call_later(0.07, reader.reading.set)
        assert await _stream(reader) == [True]
        return reader

    *_, last = _bodies(asyncio.run(late()))
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "reader_stalled"


@pytest.fixture
def impatient(idle_stack: FakeStack) -> FakeStack:
    """Half a second without a reader is too long."""
    idle_stack.settings = idle_stack.settings.model_copy(update={"stall_s": 0.5})
    idle_stack.rebuild()
    policies.initialise(idle_stack.client, idle_stack.publish())
    idle_stack.live.start()
    idle_stack.live.wait_for_live(0)
    return idle_stack


def test_a_client_that_stops_reading_frees_the_engine(impatient: FakeStack) -> None:
    """A real socket that nobody reads: the answer is aborted long before its end and its record says so; what comes
    when the client reads on is bounded and ends without `[DONE]`."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": "x"}], "max_tokens": WORDS, "stream": True}
    said = json.dumps(body).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(impatient.live.url.rpartition(":")[2])))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(said)}\r\n"
        client.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + said)
        impatient.live.wait(lambda: impatient.engine.cancelled == 1, timeout_s=60)
        impatient.live.wait(lambda: impatient.live.serving.replica.in_flight == 0, timeout_s=10)
        client.settimeout(30)
        received = b""
        while part := client.recv(1 << 20):
            received += part
    assert received.startswith(b"HTTP/1.1 200")
    assert b"[DONE]" not in received
    assert len(received) < WORDS * 100
    [key] = impatient.client.keys(keys.completion("*"))
    assert impatient.client.hget(key, "state") == "aborted"
