"""Two versions by the votes of those who compared them: hand-computed shares, and which votes are left out."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from feedback.head_to_head import HeadToHead, head_to_head
from feedback.version_votes import Tokens, VersionVote
from tests import warm


def votes(first: int, second: int, count: int, *, won: float = 1.0, tokens: Tokens | None = None) -> list[VersionVote]:
    """So many people, one vote each."""
    start = int(1e6 * won) + 1000 * first + 100 * second
    return [
        VersionVote(
            first=first, second=second, won=won, tokens=tokens, rater=f"user-{start + it}", vote=f"fb_{start + it}"
        )
        for it in range(count)
    ]


def test_sixty_people() -> None:
    """40 of 60 prefer version 7. Beyond the prior (RIDGE d/2 of 60 votes) the share is 2/3; its standard error in
    log-odds is 1/√(60 · 2/9) = 0.274, and Student's t of 59 degrees 2.001, so 0.69 ± 0.55."""
    found = head_to_head([*votes(7, 6, 40), *votes(6, 7, 20)], 6, 7)
    assert (found.votes, found.raters, found.by_rater) == (60, 60, True)
    assert (found.wins, found.ties, found.losses) == (40, 0, 20)
    assert found.win_rate is not None
    shown = (found.win_rate.value, found.win_rate.low, found.win_rate.high)
    assert shown == pytest.approx((0.6661, 0.533, 0.778), abs=0.004)


def test_the_other_way_round() -> None:
    """Whoever is named first: wins and losses, and both ends of the interval, change places."""
    given = [*votes(7, 6, 30), *votes(6, 7, 15), *votes(6, 7, 5, won=0.5)]
    one, other = head_to_head(given, 6, 7), head_to_head(given, 7, 6)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins) == (30, 5, 15)
    assert one.win_rate is not None and other.win_rate is not None
    assert one.win_rate.value + other.win_rate.value == pytest.approx(1.0)
    assert one.win_rate.low + other.win_rate.high == pytest.approx(1.0)


def test_third_versions_say_nothing_here() -> None:
    """Neither of the one nor of the other: only who compared these two counts."""
    direct = [*votes(7, 6, 5), *votes(6, 7, 5)]
    assert head_to_head([*direct, *votes(7, 0, 50), *votes(0, 6, 50)], 6, 7) == head_to_head(direct, 6, 7)


def test_nobody_has_compared_them() -> None:
    """No share is made up; nor of a version with itself."""
    for before, after in ((6, 7), (6, 6)):
        found = head_to_head(votes(6, 5, 3), before, after)
        assert (found.votes, found.win_rate, found.at_equal_length) == (0, None, None)


def test_few_raters_speak_for_themselves() -> None:
    """Below twenty the interval is over votes, and as wide as so few votes leave it."""
    found = head_to_head(votes(7, 6, 3), 6, 7)
    assert found.win_rate is not None
    assert (found.votes, found.by_rater) == (3, False)
    assert found.win_rate.low < 0.5 < found.win_rate.value


def test_what_length_alone_explains() -> None:
    """Version 7 wins where its answer is twice as long, and loses as often where it is half as long."""
    given = [
        *votes(7, 6, 40, tokens=(40, 20)),
        *votes(7, 6, 10, won=0.0, tokens=(20, 40)),
        *votes(6, 7, 2, tokens=(40, 20)),
    ]
    found = head_to_head(given, 6, 7)
    assert found.win_rate is not None and found.at_equal_length is not None
    assert found.win_rate.value > 0.7
    assert found.at_equal_length.value < found.win_rate.value - 0.1


def test_the_program_reads_the_log(
    api: TestClient, put_comparison: Callable[..., str], redis_server: str, tmp_path: object
) -> None:
    """Three of four prefer version 3 to version 2; without two versions it says how it is called."""
    for number in range(4):
        target = {"type": "comparison", "id": put_comparison(f"{number}")}
        said = {"kind": "preference", "value": "a" if number else "b", "rater": {"id": f"user-{number}"}}
        assert api.post("/v1/feedback", json=said | {"target": target}).status_code == 201
    environment = {"REDIS_URL": redis_server, "ARTIFACTS_URL": str(tmp_path)}
    done = warm.run("feedback.head_to_head", "2", "3", **environment)
    found = HeadToHead.model_validate_json(done.stdout)
    assert (found.wins, found.losses, found.votes, found.raters) == (3, 1, 4, 4)
    wrong = warm.run("feedback.head_to_head", "2", **environment)
    assert (wrong.returncode, wrong.stderr) == (2, "usage: python -m feedback.head_to_head BEFORE AFTER\n")
