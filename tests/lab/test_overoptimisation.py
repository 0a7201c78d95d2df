"""What `lab.overoptimisation` makes of its figures, and the votes that it is about."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from lab.overoptimisation import ARMS, BIASED, SOUND, report, stopped, table, told
from lab.overoptimisation_picture import picture
from lab.overoptimisation_study import Point

POINT = Point(
    arm=SOUND,
    seed=0,
    iterations=5,
    kl_to_base=1.0,
    proxy=0.7,
    judge=0.6,
    gold=0.6,
    gold_low=0.56,
    gold_high=0.64,
    tokens=18.0,
    agreement=0.5,
    verdict="pass",
    failed=[],
    summary="wins",
)
BAD = replace(POINT, arm=BIASED, verdict="fail", failed=["win_rate_low", "sentinel_judge_win"], summary="climbs")
LATER = {"iterations": 10, "kl_to_base": 3.0, "proxy": 0.9}
GOOD = [POINT, replace(POINT, **LATER)]
POINTS = [BAD, replace(BAD, **LATER, gold=0.3, gold_low=0.26, gold_high=0.34), *GOOD]


def test_the_first_failure_is_the_stop() -> None:
    """Inconclusive is no stop by what was measured, and what comes after the first does not move it."""
    doubt = replace(BAD, iterations=1, verdict="inconclusive")
    assert stopped([doubt, *POINTS], BIASED) == BAD
    assert stopped(POINTS, SOUND) is None
    assert told(POINTS, BIASED) == "length-biased: stopped after 5 iterations, 1.0 nats from the base: climbs"
    assert told(POINTS, SOUND) == "honest: never stopped."


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (POINTS, True),
        ([POINTS[0], replace(POINTS[1], gold_high=0.55), *GOOD], False),
        ([POINTS[0], replace(POINTS[1], proxy=0.6), *GOOD], False),
        ([*(replace(point, verdict="pass") for point in POINTS[:2]), *GOOD], False),
        ([*POINTS[:3], replace(POINTS[3], verdict="fail")], False),
        ([*POINTS[:3], replace(POINTS[3], gold_low=0.49)], False),
    ],
)
def test_what_is_expected(points: list[Point], expected: bool) -> None:
    """The biased arm is stopped, its optimizer's reward climbs on and gold falls below version 0 for certain; the
    honest arm is not stopped and ends above version 0. Without any of these it did not come out."""
    assert report(points, seconds=1.0)["as_expected"] is expected


def test_the_report_says_where() -> None:
    """Iterations at which each arm was stopped, and every point."""
    found = report(POINTS, seconds=61.4)
    assert found["stopped"] == {BIASED: 5, SOUND: None}
    assert (found["seconds"], found["longer"], len(found["points"])) == (61, ARMS, 4)
    assert table(POINTS).row_count == 4


def test_the_picture_has_a_curve_for_each_and_one_stop() -> None:
    """Well-formed; three lines a panel; only the biased arm is blocked."""
    drawn = ElementTree.fromstring(picture(POINTS))
    name = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{name}polyline")) == 6
    assert [text.text for text in drawn.findall(f"{name}text")].count("blocked") == 1
