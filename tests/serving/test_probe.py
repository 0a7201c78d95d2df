"""The probe's judgement on hand-made log-probs."""

import pytest

from core.records import ProbeSequence
from serving.probe import compare

TRAINED = [-1.0, -2.0, -3.0]
PARENT = [-1.5, -2.5, -2.0]


def _probe(*, parent: list[float] | None = PARENT) -> list[ProbeSequence]:
    return [ProbeSequence(token_ids=[7, 1, 2, 3, 4], start=2, logprobs=TRAINED, parent_logprobs=parent)]


def _served(*logprobs: float) -> list[list[float]]:
    """The score of `token_ids[1:]`: one token before the probe's start, then the probed ones."""
    return [[-9.0, *logprobs]]


def test_an_adapter_served_as_published_passes() -> None:
    """Small rounding is allowed; the slope of what it changes is 1."""
    report = compare(_probe(), _served(-1.00001, -2.0, -3.0), float32=True)
    assert (report.fault, report.tokens) == ("", 3)
    assert report.slope == pytest.approx(1.0, abs=1e-4)
    assert report.max_error == pytest.approx(1e-5, rel=1e-3)


def test_an_adapter_served_as_its_parent_fails() -> None:
    """In float32 by its error, in bfloat16 by its slope, which is 0."""
    assert "off by up to 1" in compare(_probe(), _served(*PARENT), float32=True).fault
    assert compare(_probe(), _served(*PARENT), float32=False).slope == 0.0


def test_a_half_served_adapter_fails_in_bfloat16_by_its_slope() -> None:
    """It changes 0.2 and 0.11 nats; 0.018 of that is lost, an error that rounding may have: slopes 0.91 and 0.84."""
    served = [logprob - 0.018 for logprob in TRAINED]
    parent = [logprob - 0.2 for logprob in TRAINED]
    assert compare(_probe(parent=parent), _served(*served), float32=False).fault == ""
    parent = [logprob - 0.11 for logprob in TRAINED]
    assert "slope 0.84" in compare(_probe(parent=parent), _served(*served), float32=False).fault


def test_bfloat16_tolerates_rounding_but_no_outlier() -> None:
    """A mean of 0.01 passes; one token that is 0.5 off does not."""
    rounded = [logprob + 0.01 for logprob in TRAINED]
    assert compare(_probe(parent=None), _served(*rounded), float32=False).fault == ""
    assert compare(_probe(parent=None), _served(-1.0, -2.0, -3.5), float32=False).fault != ""


@pytest.mark.parametrize("parent", [None, [-1.0, -2.0, -3.0001]])
def test_too_close_to_tell_is_said(parent: list[float] | None) -> None:
    """Without a parent, or with one that says the same, there is no slope, and that alone is no fault."""
    report = compare(_probe(parent=parent), _served(*TRAINED), float32=True)
    assert (report.slope, report.fault) == (None, "")


def test_not_a_number_never_passes() -> None:
    """In either dtype."""
    for float32 in (True, False):
        assert "not finite" in compare(_probe(), _served(-1.0, float("nan"), -3.0), float32=float32).fault


def test_an_adapter_without_a_probe_fails() -> None:
    """It could be anything."""
    assert compare([], [], float32=True).fault == "the manifest carries no probe"
