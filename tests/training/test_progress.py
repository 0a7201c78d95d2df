"""Progress on a pipe: JSON lines that the worker reads."""

import json

import pytest

from training.progress import track


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_items_pass_through_and_progress_grows(capsys: pytest.CaptureFixture[str]) -> None:
    """Every item comes out; the numbers never fall and end at the end of the loop's share."""
    assert list(track(range(1000), "training", share=(0.2, 0.7))) == list(range(1000))

    said = lines(capsys)
    progress = [line["progress"] for line in said]
    assert progress == sorted(progress)
    assert progress[0] == pytest.approx(0.2, abs=0.002)
    assert progress[-1] == 0.7
    assert {line["message"] for line in said} == {"training"}


def test_a_fast_loop_says_little(capsys: pytest.CaptureFixture[str]) -> None:
    """A million quick items are a handful of lines, not a million."""
    for _ in track(range(1_000_000), "training"):
        pass

    assert len(lines(capsys)) < 50


def test_an_empty_loop_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([], "nothing")) == []
    assert lines(capsys) == [{"progress": 1.0, "message": "nothing"}]
