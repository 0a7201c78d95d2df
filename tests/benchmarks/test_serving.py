"""The serving benchmark: its client counts what arrives when, and its figures are what they are called."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from benchmarks import serving_figures, serving_report, streams
from benchmarks.streams import Answer, Streams

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(text: str, *, space: str = "") -> bytes:
    payload = f'data: {{"model":"assistant@v3","choices":[{{"delta":{{"content":{space}"{text}"}}}}]}}\n\n'.encode()
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _end(tokens: int) -> bytes:
    payload = b'data: {"choices":[],"usage":{"completion_tokens":%d}}\n\ndata: [DONE]\n\n' % tokens
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload)


@contextlib.asynccontextmanager
async def _server(*parts: bytes, pause_s: float = 0.0) -> AsyncIterator[int]:
    """Answers every request with these packets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
            if not parts[-1].endswith(b"0\r\n\r\n"):
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _ask(*parts: bytes, pause_s: float = 0.0, at_once: int = 2) -> Streams:
    async with _server(*parts, pause_s=pause_s) as port:
        requests = [streams.chat("assistant", "w9", tokens=2) for _ in range(3)]
        return await streams.closed(port, requests, streams=at_once)


def test_pieces_are_counted_as_they_come() -> None:
    """A role chunk is no piece, two events in a packet are two, an event cut by packets is one; tokens are the
    server's count, and connections are used again."""
    whole = _event("w1 ")
    parts = (HEAD + _event(""), whole[:40], whole[40:], _event("w2", space=" ") + _event("w3") + _end(4))
    run = asyncio.run(_ask(*parts, pause_s=0.01))
    assert [(len(it.pieces), it.tokens, it.model, it.failed) for it in run.answers] == [(3, 4, "assistant@v3", "")] * 3
    assert all(it.sent < it.pieces[0] < it.pieces[1] == it.pieces[2] for it in run.answers)


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}",),
        (HEAD + _event("w1"),),
        (HEAD + _event("w1") + b'd\r\ndata: {"error"\n\n\r\n0\r\n\r\n',),
    ],
)
def test_an_answer_that_is_not_whole_has_failed(parts: tuple[bytes, ...]) -> None:
    """A refusal, a connection that breaks, a stream without its end; the next request is sent all the same."""
    run = asyncio.run(_ask(*parts, at_once=1))
    assert len(run.failed) == 3


def test_an_open_loop_does_not_wait_for_answers() -> None:
    """Requests that come while others are answered run beside them; the same seed gives the same arrivals."""

    async def ask() -> Streams:
        async with _server(HEAD, _event("w1"), _end(1), pause_s=0.1) as port:
            return await streams.opened(port, [streams.chat("a", "w9", tokens=1)] * 6, arrivals_per_s=100.0, seed=1)

    run = asyncio.run(ask())
    assert (len(run.answers), len(run.failed)) == (6, 0)
    assert run.most_at_once > 1
    times = [next_at for next_at, _ in zip(streams.arrivals(2.0, seed=5), range(20_000), strict=False)]
    assert times[-1] == pytest.approx(10_000, rel=0.03)
    assert times[:9] == [at for at, _ in zip(streams.arrivals(2.0, seed=5), range(9), strict=False)]


def _run(*, ttft: float, gap: float, model: str = "assistant@v1", start: float = 0.0, failed: str = "") -> Streams:
    """Two chats at once, four tokens each."""
    pieces = [start + ttft + gap * i for i in range(4)]
    answers = [Answer(sent=start, pieces=pieces, tokens=4, model=model, failed=failed) for _ in range(2)]
    return Streams(answers=answers, most_at_once=2, client_share=0.1, processor_s=gap)


def test_a_row_compares_within_rounds() -> None:
    """Ratios are taken round by round, then the median: a slow round of both sides changes nothing."""
    ours = [_run(ttft=0.2, gap=0.1), _run(ttft=0.2, gap=0.1), _run(ttft=2.0, gap=1.0)]
    theirs = [_run(ttft=0.1, gap=0.1), _run(ttft=0.2, gap=0.05), _run(ttft=2.0, gap=1.0)]
    row = serving_figures.row(ours, theirs, loop="closed", streams=2, seeds=False)
    assert ours[0].tokens_per_s == pytest.approx(8 / 0.5)
    assert row.throughput.model_dump() == {"median": 0.8, "lowest": 0.7, "highest": 1.0}
    assert (row.throughput_ratio, row.ttft_added_ms_p50, row.inter_token_p99_ratio) == (0.8, 0.0, 1.0)
    assert row.ttft_added_ms.model_dump() == {"median": 0.0, "lowest": 0.0, "highest": 100.0}
    assert (row.processor.median, row.ours_processor_ms) == (1.0, 12.5)


def test_a_swap_is_over_when_somebody_reads_its_words() -> None:
    """From the registry's answer to the first piece by that version, whoever got it; failures are counted."""
    runs = [_run(ttft=0.5, gap=0.2, model="assistant@v2", start=1.0), _run(ttft=0.1, gap=0.1, start=9.0, failed="cut")]
    still = [_run(ttft=0.1, gap=0.1)] * 2
    swap = serving_figures.swap(runs, still, streams=2, published={"assistant@v2": 1.2, "assistant@v1": 9.0})
    assert swap.published_to_first_token_s.all == [0.3, 0.1]
    assert (swap.swaps, swap.requests, swap.failed, swap.p99_gap_ratio) == (2, 4, 2, 1.5)
    assert (swap.longest_gap_ms, swap.longest_gap_without_ms) == (200.0, 100.0)
    with pytest.raises(SystemExit, match="assistant@v7 was published and never answered"):
        serving_figures.swap(runs, still, streams=2, published={"assistant@v7": 0.0})


def test_missed_targets_are_named() -> None:
    """Each peer by its own measure; an open loop's throughput is set by its arrivals."""
    fast, slow = [_run(ttft=0.100, gap=0.1)] * 3, [_run(ttft=0.107, gap=0.1)] * 3
    good = serving_figures.row(fast, slow, loop="closed", streams=1, seeds=True)
    added = serving_figures.row(slow, fast, loop="closed", streams=8, seeds=False)
    result = serving_figures.Result(
        date="2026-11-21",
        cores=2,
        model="",
        versions={},
        rounds=3,
        load_before=0.0,
        seconds=60,
        against_vllm=[good, added],
        against_litellm=[good],
        swap=serving_figures.swap(fast, fast, streams=2, published={"assistant@v1": 0.0}),
        residents=[serving_figures.residents(slow, fast, adapters=2, streams=2)],
    )
    assert serving_report.missed(result) == ["vLLM's server, 8 streams", "LiteLLM, 1 streams, seeds"]
    serving_report.show(result)
