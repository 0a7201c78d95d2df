"""Nothing is timed that is not the same training, and both sides get the same rows."""

import statistics
from pathlib import Path

import pytest

from benchmarks import workload
from benchmarks.contest import same_losses
from benchmarks.worker import Worker
from benchmarks.workload import Outcome


def outcome(losses: list[float]) -> Outcome:
    return Outcome(losses=losses, seconds=1.0, processor_seconds=1.0, peak_bytes=1, count=1, versions={})


def test_curves_that_disagree_stop_the_benchmark() -> None:
    """A difference of 1e-4 at one step is too much, and so is a loss that is no number."""
    assert same_losses(outcome([0.7, 0.5]), outcome([0.7, 0.50005])) == pytest.approx(5e-5)
    for other in ([0.7, 0.5002], [0.7, float("nan")]):
        with pytest.raises(SystemExit, match="disagree"):
            same_losses(outcome([0.7, 0.5]), outcome(other))


def test_long_prompts_are_four_times_their_answers() -> None:
    """In `long` rows, on average; every answer ends with end-of-text and has it nowhere else."""
    rows = workload.rows("long", 200, vocabulary=100, eos=1)
    answers = [answer for row in rows for answer in (row.chosen, row.rejected)]

    ratio = statistics.mean(len(row.prompt) for row in rows) / statistics.mean(len(answer) - 1 for answer in answers)
    assert ratio == pytest.approx(4.0, abs=0.2)
    assert all(answer.index(1) == len(answer) - 1 for answer in answers)


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    """The worker answers with the log's end, and goes on for the next run."""
    with Worker("tests.benchmarks.echo_worker", tmp_path, threads=1) as worker:
        with pytest.raises(SystemExit, match="no losses at all"):
            worker.run(outcome([]))
        assert worker.run(outcome([0.5])).losses == [0.5]
