"""Nobody gains more than a bounded part of a snapshot by voting more."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from feedback.eligibility import UsableVote
from feedback.influence import Caps, attainable, bound, limit
from tests.feedback.votes import SALT, on_completion, prompt_in, side, usable, vote


def given_by(rater: str | None, number: int, *, prompt: str = "", **given: object) -> UsableVote:
    """A preference on a comparison of its own, about a prompt of its own if none is given."""
    name = f"{rater}.{number}"
    text = prompt or f"prompt of {name}"
    cast = vote(name=name, rater=rater, entry=f"{200 + number}-0", **given)
    return usable(cast, side(f"{name}-a", prompt=text), side(f"{name}-b", prompt=text))


def by_rater(votes: list[UsableVote]) -> Counter[str | None]:
    return Counter(it.feedback.rater for it in votes)


def test_the_limit_is_a_share_of_what_is_left():
    """Hand-computed: of 99 × 10 + 500 votes at 5 % one keeps 52 = 0.05 × (990 + 52), rounded down; not 0.05 × 1490."""
    assert limit([10] * 99 + [500], share=0.05, floor=0) == 52
    assert limit([10] * 99 + [50_000], share=0.05, floor=0) == 52
    assert limit([10] * 99 + [500], share=0.05, floor=60) == 60
    assert limit([10] * 100, share=0.05, floor=0) is None
    assert limit([], share=0.05, floor=0) is None


def test_where_an_even_share_is_more_it_stands_doubled():
    """Of 40 raters nobody can have 0.5 %: the bound is 5 %, and 40 who vote alike are not cut."""
    assert attainable(0.005, 40) == 0.05
    assert attainable(0.005, 1000) == 0.005
    assert limit([7] * 40, share=0.005, floor=0) is None
    assert limit([10] * 39 + [400], share=0.005, floor=0) == 20  # 0.05 × (390 + 20) = 20.5


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.floats(0.001, 1.0))
def test_the_limit_is_the_largest_that_holds(counts, share):
    """With it nobody has more than the share of what is left; with one more somebody would."""
    found, reachable = limit(counts, share=share, floor=0), attainable(share, len(counts))
    most = found if found is not None else max(counts)
    assert most <= reachable * sum(min(count, most) for count in counts) + 1e-6
    if found is not None:
        assert found + 1 > reachable * sum(min(count, found + 1) for count in counts) - 1e-6


def test_a_raters_share_is_capped():
    """420 raters of 5 votes and one of 400: 0.5 % of what is left is 10, so the floor of 20 holds; the newest stay."""
    votes = [given_by(f"user-{rater}", number) for rater in range(420) for number in range(5)]
    votes += [given_by("busy", number) for number in range(400)]
    found = bound(votes, Caps(), salt=SALT)
    assert by_rater(found.votes)["busy"] == 20
    assert {it.feedback.id for it in found.votes if it.feedback.rater == "busy"} == {
        f"fb_busy.{number}" for number in range(380, 400)
    }
    assert Counter(found.dropped.values()) == {"rater_share": 380}
    assert (found.caps["rater_share"], found.caps["rater_votes"]) == (0.005, 20)


@pytest.mark.parametrize(("raters", "capped"), [(19, False), (20, True)])
def test_at_home_nobody_is_capped(raters, capped):
    """Below 20 raters the bound is off, and the manifest does not name it."""
    votes = [given_by(f"user-{rater}", 0) for rater in range(raters - 1)]
    votes += [given_by("busy", number) for number in range(60)]
    found = bound(votes, Caps(), salt=SALT)
    assert by_rater(found.votes)["busy"] == (20 if capped else 60)
    assert ("rater_share" in found.caps) is capped


def test_who_has_no_id_is_not_capped_as_one():
    """Many people without an id are not one person; nor are they raters who switch the bound on."""
    votes = [given_by(None, number) for number in range(300)]
    assert len(bound(votes, Caps(), salt=SALT).votes) == 300


def test_the_same_answers_again_count_once():
    """Of a rater's votes on the same two texts of one prompt, whichever way round, the newest; other raters and kinds
    keep theirs, and so does nobody in particular."""

    def cast(name: str, rater: str | None, texts: str, **given: object) -> UsableVote:
        answers = (side(f"{name}-{s}", text=text) for s, text in zip("ab", texts, strict=True))
        return usable(vote(name=name, rater=rater, entry=f"20{name}-0", **given), *answers)

    votes = [cast("1", "x", "pq"), cast("2", "x", "qp"), cast("3", "y", "pq"), cast("4", None, "pq")]
    votes += [cast("5", None, "pq"), cast("6", "x", "pr")]
    thumbs = [
        usable(on_completion("thumb", value, name=f"t{value}", rater="x", entry=f"30{value + 1}-0"), side("1-a"))
        for value in (1, -1)
    ]
    found = bound([*votes, *thumbs], Caps(), salt=SALT)
    assert found.dropped == {"fb_1": "duplicate", "fb_t-1": "duplicate"}


def test_near_duplicate_prompts_are_capped_and_everybody_is_heard():
    """300 votes on spellings of one prompt among 200 on others: 50 stay (1 % of what is left is less), among them one
    of each rater, however many the flood has."""
    flood = [given_by("flood", number, prompt=f"A dog is{'!' * number}") for number in range(260)]
    people = [given_by(f"user-{rater}", 0, prompt="a dog is") for rater in range(40)]
    others = [given_by(f"other-{rater}", 0) for rater in range(200)]
    found = bound([*flood, *people, *others], Caps(from_raters=1000), salt=SALT)
    assert Counter(found.dropped.values()) == {"theme_share": 250}
    kept = by_rater(found.votes)
    assert (kept["flood"], sum(kept[f"user-{rater}"] for rater in range(40))) == (10, 40)
    assert (found.caps["theme_share"], found.caps["theme_votes"]) == (0.01, 50)


def test_one_prompt_only_is_no_flood():
    votes = [given_by(f"user-{rater}", 0, prompt="A dog is") for rater in range(15)]
    assert bound(votes, Caps(theme_floor=1), salt=SALT).dropped == {}


def machine(people: int, machines: int, **given: object) -> list[UsableVote]:
    """People's votes first, then those of one AI rater."""
    prompt = str(given.pop("prompt", prompt_in("optimize")))
    kinds = ["human"] * people + ["ai"] * machines
    return [
        given_by("ai:judge" if kind == "ai" else f"user-{i}", i, prompt=prompt, rater_kind=kind, **given)
        for i, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(("people", "machines", "kept"), [(7, 5, 3), (7, 2, 2), (0, 5, 0), (14, 9, 6), (6, 9, 2)])
def test_ai_raters_have_at_most_three_tenths_of_the_votes(people, machines, kept):
    """The newest are kept; the others are counted."""
    found = bound(machine(people, machines), Caps(), salt=SALT)
    theirs = [it.feedback.id for it in found.votes if it.feedback.rater_kind == "ai"]
    assert theirs == [f"fb_ai:judge.{i}" for i in range(people + machines - kept, people + machines)]
    assert Counter(found.dropped.values()) == Counter({"ai_share": machines - kept})
    assert all(it.trains for it in found.votes)


def test_ai_raters_have_at_most_three_tenths_of_what_trains_the_policy():
    """Where people's votes were used already, fewer of an AI's may train the policy than the reward model."""
    votes = machine(7, 3)
    used = [given_by(f"user-{i}", i, prompt=prompt_in("optimize"), created_at=0.001 * i) for i in range(4)]
    votes[:4] = [replace(it, trains=False) for it in used]
    found = bound(votes, Caps(), salt=SALT)
    assert [it.trains for it in found.votes] == [False] * 4 + [True] * 3 + [False, False, True]
    assert Counter(found.withheld.values()) == {"ai_policy_share": 2}


@pytest.mark.parametrize("fold", ["judge", "test"])
def test_ai_raters_never_judge_or_test(fold):
    """What decides about a policy comes from people."""
    found = bound(machine(7, 2, prompt=prompt_in(fold)), Caps(), salt=SALT)
    assert Counter(found.dropped.values()) == {"ai_fold": 2}


def test_both_bad_of_an_ai_counts_among_its_thumbs():
    """Else an AI that finds everything bad would fill the table of thumbs."""
    votes = [*machine(7, 0), *machine(0, 3, value="both_bad")]
    assert Counter(bound(votes, Caps(), salt=SALT).dropped.values()) == {"ai_share": 3}


@settings(max_examples=40)
@given(st.permutations(range(60)), st.integers(1, 12))
def test_the_order_of_arrival_changes_nothing(order, raters):
    """With every bound biting, the same votes give the same rows and the same reasons."""
    caps = Caps(rater_floor=1, from_raters=2, theme_floor=2, theme_share=0.05)
    votes = [
        given_by(
            f"user-{number % raters}",
            number,
            prompt=f"prompt {number % 5}",
            rater_kind="ai" if number % 7 == 0 else "human",
            created_at=float(number // 3),
        )
        for number in range(60)
    ]
    assert bound([votes[i] for i in order], caps, salt=SALT) == bound(votes, caps, salt=SALT)
