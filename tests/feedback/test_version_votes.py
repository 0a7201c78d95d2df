"""Which votes count between versions, and what each weighs."""

import numpy as np
import pytest

from core.records import Asked, Comparison, RaterEvent
from feedback.essence import ComparisonEssence, comparison
from feedback.events import LoggedRater, LoggedVote
from feedback.version_votes import LARGEST, VersionVote, version_votes, weigh
from tests.feedback.votes import ranking, side, vote


def asked_for(name: str, *, asked: Asked = "random", propensity: float = 1.0, sides: int = 2) -> ComparisonEssence:
    ids = [f"{name}-{letter}" for letter in "abcdefghi"[:sides]]
    record = Comparison(
        id=f"cmp_{name}",
        created=0.0,
        completion_ids=ids,
        policy_versions=[0] * sides,
        order=list(range(sides)),
        asked=asked,
        propensity=propensity,
    )
    return comparison(record.to_json())


ANSWERS = {
    "1-a": side("1-a", policy_version=3),
    "1-b": side("1-b", policy_version=2),
    "r-a": side("r-a", policy_version=3),
    "r-b": side("r-b", policy_version=2),
    "r-c": side("r-c", policy_version=3),
}
COMPARISONS = {"cmp_1": asked_for("1", asked="active", propensity=0.25), "cmp_r": asked_for("r", sides=3)}


def one(given: LoggedVote, *raters: LoggedRater) -> tuple[list[VersionVote], dict[str, int]]:
    found, left_out = version_votes([given], raters, ANSWERS, COMPARISONS)
    return found, dict(left_out)


@pytest.mark.parametrize(("value", "won"), [("a", 1.0), ("b", 0.0), ("tie", 0.5), ("both_bad", 0.5)])
def test_a_preference_is_a_version_vote(value: str, won: float) -> None:
    """Side a is the first; a tie and two bad answers are half a win each; the draw's propensity comes with it."""
    (found,), _ = one(vote(value))
    assert (found.first, found.second, found.won, found.share) == (3, 2, won, 1.0)
    assert (found.asked, found.propensity, found.tokens, found.rater) == ("active", 0.25, (2, 2), "user-7")


def test_a_ranking_is_a_vote_in_parts() -> None:
    """b before a and c, which are of one version: two of its three pairs are version votes, a third of a vote each."""
    found, _ = one(ranking([["b"], ["a", "c"]]))
    assert [(it.first, it.second, it.won) for it in found] == [(3, 2, 0.0), (2, 3, 1.0)]
    assert [it.share for it in found] == pytest.approx([1 / 3, 1 / 3])
    assert {it.vote for it in found} == {"fb_r"}


def test_what_does_not_count() -> None:
    """Machines, raters in quarantine, answers that are gone, and answers of one version."""
    event = RaterEvent(rater="user-7", action="quarantine", reason="-", actor="-", created_at=0.0)
    assert one(vote(rater_kind="ai")) == ([], {"ai": 1})
    assert one(vote(), LoggedRater(entry="1-0", event=event)) == ([], {"quarantined": 1})
    assert one(vote(name="2")) == ([], {"expired": 1})
    same = ANSWERS | {"1-b": side("1-b", policy_version=3)}
    assert version_votes([vote()], [], same, COMPARISONS) == ([], {"same_version": 1})


def test_answers_without_text_have_no_length() -> None:
    """`store: false` keeps no tokens: the vote counts all the same."""
    bare = ANSWERS | {"1-a": side("1-a", choices=[], messages=[])}
    (found,), _ = version_votes([vote()], [], bare, COMPARISONS)
    assert found.tokens is None
    assert weigh([found]).votes.longer.tolist() == [0.0]


def between(number: int, **given: object) -> VersionVote:
    fields: dict[str, object] = {"first": 1, "second": 0, "won": 1.0, "vote": f"fb_{number}"}
    return VersionVote(**(fields | given))  # type: ignore[arg-type]


def test_a_vote_weighs_the_inverse_of_its_propensity() -> None:
    """Within its kind of draw, whose mean is one: 1/0.5 and 1/0.25 are 2/3 and 4/3; the others are not touched."""
    found = [between(0, asked="active", propensity=0.5), between(1, asked="active", propensity=0.25), between(2)]
    assert weigh(found).votes.weight == pytest.approx([2 / 3, 4 / 3, 1.0])


def test_no_weight_is_above_the_largest() -> None:
    """One draw of a hundred that had almost no chance would weigh 91: it is cut, and counted."""
    found = weigh([between(number, propensity=1.0 if number else 0.001) for number in range(100)])
    assert found.votes.weight.max() == LARGEST
    assert found.clipped == 1


def test_a_busy_rater_weighs_no_more_than_a_share() -> None:
    """Thirty raters with two votes and one with 200: theirs weigh as 20, the floor of a snapshot's bound."""
    found = [between(number, rater=f"user-{number % 30}") for number in range(60)]
    found += [between(100 + number, rater="busy") for number in range(200)]
    weight = weigh(found).votes.weight
    assert weight[:60] == pytest.approx(1.0)
    assert weight[60:].sum() == pytest.approx(20.0)


@pytest.mark.parametrize(("raters", "units"), [(20, 20), (19, 40)])
def test_raters_are_units_where_there_are_enough(raters: int, units: int) -> None:
    """Two votes each: with twenty raters the raters are drawn, with nineteen the votes are."""
    found = weigh([between(number, rater=f"user-{number % raters}") for number in range(2 * raters)])
    assert found.by_rater == (raters == 20)
    assert found.votes.unit.max() + 1 == (units if raters == 20 else 2 * raters)


def test_version_votes_of_a_vote_are_one_unit() -> None:
    """However many pairs a ranking has."""
    found = weigh([between(0), between(0), between(1)])
    assert found.votes.unit.tolist() == [0, 0, 1]
    assert np.isclose(found.effective, 3.0)
