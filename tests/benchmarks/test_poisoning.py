"""The figures of the poisoning benchmark, from losses that are given."""

import pytest

from benchmarks.poisoning import pooled, report, rows
from benchmarks.poisoning_study import Caught, Cell, Result, Size, trainings


def result(seed: int, losses: dict[str, tuple[float, float]]) -> Result:
    cells = [
        Cell(attack=name, attackers=0.1, metric="m", loss_trust_on=on, loss_trust_off=off)
        for name, (on, off) in losses.items()
    ]
    caught = [
        Caught(
            attack=name,
            attackers=0.1,
            honest=0.02 * seed,
            attacking=0.9,
            honest_weight=0.9,
            attacking_weight=0.1,
        )
        for name in losses
    ]
    return Result(seed=seed, tau=0.7, clean={"m": 0.8}, cells=cells, caught=caught)


RESULTS = [
    result(1, {"sybil": (0.02, 0.10), "left": (0.01, 0.02)}),
    result(2, {"sybil": (0.04, 0.20), "left": (0.03, 0.00)}),
]


def test_losses_are_pooled_over_the_harmful_rows() -> None:
    """Sybil lost 0.15 on average and counts: (0.02 + 0.04) / (0.10 + 0.20) = 0.2, whichever seeds are drawn. The others
    lost 0.01 and count elsewhere."""
    found = rows(RESULTS)

    assert [(row.attack, row.loss_trust_on, row.loss_trust_off) for row in found] == [
        ("sybil", pytest.approx(0.03), pytest.approx(0.15)),
        ("left", pytest.approx(0.02), pytest.approx(0.01)),
    ]
    ratio = pooled(found)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(0.2), pytest.approx(0.2), pytest.approx(0.2))
    assert pooled(found[1:]) is None


def test_the_report_has_what_was_promised() -> None:
    """Rows, the ratio with its interval, and how many honest raters lost their vote: (0.02 + 0.04) / 2."""
    document = report(RESULTS, seconds=1.0)

    assert {"attack", "attackers", "metric", "loss_trust_on", "loss_trust_off"} <= document["rows"][0].keys()
    assert document["pooled_ratio"] == pytest.approx(0.2)
    assert document["worst_loss_elsewhere"] == pytest.approx(0.02)
    assert document["honest_quarantined"] == pytest.approx(0.03)
    assert document["honest_quarantined_worst"] == pytest.approx(0.04)


def test_the_bar_counts_every_training() -> None:
    """Clean and clean with trust; five attacks at three shares, on and off; DPO for clean and three attacks, on and
    off: 2 + 30 + 7."""
    assert trainings(Size()) == 39
