"""The benchmark of votes: answers are found whole, and what a side stored is what counts."""

from pathlib import Path

import pytest

from benchmarks import feedback, load


@pytest.mark.parametrize(
    ("end", "answer"),
    [
        (load.http_end, b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\n{}"),
        (load.http_end, b"HTTP/1.1 204 No Content\r\ncontent-length:0\r\n\r\n"),
        (load.resp_end, b"*2\r\n$3\r\nnew\r\n*3\r\n$-1\r\n:12\r\n*0\r\n"),
        (load.resp_end, b"$4\r\n\r\n\r\n\r\n"),
        (load.resp_end, b"-ERR no such key\r\n"),
    ],
)
def test_an_answer_ends_where_it_ends(end: load.End, answer: bytes) -> None:
    """Not before its last byte, and not at what follows it."""
    assert [end(bytearray(answer[:length])) for length in range(len(answer))] == [0] * len(answer)
    assert end(bytearray(answer)) == end(bytearray(answer + answer)) == len(answer)


def test_requests_are_what_their_protocols_say() -> None:
    """HTTP/1.1 with the body's length in bytes, and Redis's arrays of bulk strings."""
    assert load.post("/v", "é").endswith(b"\r\ncontent-length: 2\r\n\r\n\xc3\xa9")
    assert load.resp(["SET", "é", 12]) == b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$2\r\n12\r\n"


def test_all_sides_store_what_they_acknowledge(tmp_path: Path) -> None:
    """A tiny run on real servers: three sides at two numbers of connections, each with its figures."""
    result = feedback.measure(tmp_path, {1: 6, 4: 30}, rounds=2)
    assert [(row.side, row.connections) for row in result.rows] == [
        (side, connections) for connections in (1, 4) for side in ("feedback", "plain", "script")
    ]
    assert all(row.votes_per_s > 0 and 0 < row.p50_ms <= row.p99_ms for row in result.rows)
    assert [(ratio.connections, ratio.to) for ratio in result.ratios] == [
        (connections, to) for connections in (1, 4) for to in ("plain", "script")
    ]
    assert all(ratio.lowest <= ratio.ratio <= ratio.highest for ratio in result.ratios)
    assert result.bytes_per_completion > 0
