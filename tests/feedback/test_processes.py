"""Work on chunks in several processes."""

import os
import time

import pytest

from core.errors import UsageError
from feedback.processes import in_order


def test_results_come_in_the_order_of_the_chunks():
    """Whoever is done first; and nothing needs to be picklable but chunks and results."""

    def work(chunk: int) -> int:
        time.sleep(0.02 * (chunk % 3 == 0))
        return chunk * chunk

    expected = [chunk * chunk for chunk in range(30)]
    assert list(in_order(work, range(30), processes=1)) == expected
    assert list(in_order(work, range(30), processes=3)) == expected


def test_several_processes_share_the_work():
    """And this one does none of it."""
    workers = set(in_order(lambda _: (time.sleep(0.01), os.getpid())[1], range(40), processes=2))
    assert len(workers) == 2
    assert os.getpid() not in workers


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_a_chunk_is_raised_here(processes):
    """With its words; the results before it are good."""

    def work(chunk: int) -> int:
        if chunk == 3:
            raise UsageError("a part of the archive was changed")
        return chunk

    results = in_order(work, range(100), processes=processes)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UsageError, match="a part of the archive was changed"):
        next(results)
