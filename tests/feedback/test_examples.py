"""From votes and records to rows: every vote gives rows or is counted under its reason."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.records import Choice, Message, Target
from feedback import examples
from feedback.eligibility import spelling_of
from feedback.events import LoggedPrompt, LoggedVote, RaterState
from feedback.influence import Caps
from feedback.rows import (
    DemonstrationRow,
    PairRow,
    RankingRow,
    RatingRow,
    ThumbRow,
    canonical_prompt,
    cluster_of,
    hashed_rater,
)
from feedback.snapshot import content_id
from tests.feedback.votes import (
    BY,
    OPTIMIZE,
    SALT,
    circumstances,
    on_completion,
    prompt_in,
    ranking,
    rows_of,
    select,
    side,
    states,
    vote,
)


@pytest.mark.parametrize(("value", "chosen", "rejected"), [("a", "1-a", "1-b"), ("b", "1-b", "1-a")])
def test_a_preference_gives_a_pair_with_the_stored_ids(value, chosen, rejected):
    """The side that was voted for is chosen; token ids and texts are those of the records."""
    (row,) = rows_of([vote(value)], side("1-a"), side("1-b", policy_version=2))
    assert isinstance(row, PairRow)
    assert (row.chosen_text, row.rejected_text) == (f"text of {chosen}", f"text of {rejected}")
    assert (row.chosen_token_ids, row.rejected_token_ids) == ([ord(chosen[-1]), 4], [ord(rejected[-1]), 4])
    assert (row.chosen_version, row.rejected_version) == ((3, 2) if value == "a" else (2, 3))
    assert (row.tie, row.trains_policy, row.ranked, row.weight, row.fold) == (False, True, False, 1.0, "optimize")
    assert row.prompt == f'[{{"role":"user","content":"{OPTIMIZE}"}}]'
    assert (row.feedback_id, row.comparison_id, row.created_at) == ("fb_1", "cmp_1", 0.2)
    assert row.rater not in ("user-7", "-")


def test_a_tie_trains_the_reward_model_only():
    """A tie is a row, left and right as shown, that does not train the policy."""
    sides = [side("1-a"), side("1-b")]
    (row,) = rows_of([vote("tie")], *sides)
    assert (row.tie, row.trains_policy, row.chosen_text) == (True, False, "text of 1-a")
    assert select([vote("tie")], *sides).dropped == {"tie": 1}


def test_both_bad_is_no_pair_but_two_thumbs_down():
    """Of half a vote each."""
    found = rows_of([vote("both_bad", rater="user-8")], side("1-a"), side("1-b", policy_version=2))
    assert all(isinstance(row, ThumbRow) for row in found)
    assert [(row.completion_id, row.up, row.weight, row.version) for row in found] == [
        ("1-a", False, 0.5, 3),
        ("1-b", False, 0.5, 2),
    ]
    assert {row.feedback_id for row in found} == {"fb_1"}
    assert all(row.trains_policy for row in found)


def test_a_ranking_gives_its_row_and_its_strict_pairs():
    """Hand-computed for b > a = d > c: of C(4, 2) = 6 pairs five have an order, each a sixth of the vote."""
    sides = [side(f"r-{letter}", policy_version=2 + (letter == "a")) for letter in "abcd"]
    by = circumstances(weights={"user-7": 3.0})
    row, *pairs = rows_of([ranking([["b"], ["a", "d"], ["c"]])], *sides, by=by)
    assert isinstance(row, RankingRow)
    assert row.completion_texts == [f"text of r-{letter}" for letter in "badc"]
    assert row.completion_token_ids == [[ord(letter), 4] for letter in "badc"]
    assert (row.ranks, row.versions, row.weight) == ([1, 2, 2, 3], [2, 3, 2, 2], 3.0)
    assert [(pair.chosen_text[-1], pair.rejected_text[-1]) for pair in pairs] == [
        ("b", "a"),
        ("b", "d"),
        ("b", "c"),
        ("a", "c"),
        ("d", "c"),
    ]
    assert {(pair.weight, pair.ranked, pair.tie, pair.trains_policy, pair.feedback_id) for pair in pairs} == {
        (0.5, True, False, True, "fb_r")
    }


def test_a_rankings_pairs_are_for_the_policy_only():
    """In the other folds there are none; equal texts prefer nothing; a ranking without an order is a tie."""
    groups = [["a"], ["b"], ["c"]]
    kept = [side(f"r-{letter}", prompt=prompt_in("judge")) for letter in "abc"]
    assert [type(row) for row in rows_of([ranking(groups)], *kept)] == [RankingRow]
    same = [side("r-a"), side("r-b"), side("r-c", text="text of r-b")]
    assert len([row for row in rows_of([ranking(groups)], *same) if isinstance(row, PairRow)]) == 2
    level = ranking([["c", "b", "a"]])
    assert [type(row) for row in rows_of([level], *same)] == [RankingRow]
    assert select([level], *same).dropped == {"ranking_tie": 1}


@pytest.mark.parametrize("value", [1, -1])
def test_a_thumb_gives_a_row_with_the_stored_ids(value):
    """The completion's own ids and text; up or down; it trains the policy."""
    (row,) = rows_of([on_completion("thumb", value)], side("1-a", propensity=0.25))
    assert isinstance(row, ThumbRow)
    assert (row.completion_id, row.completion_text, row.completion_token_ids) == ("1-a", "text of 1-a", [ord("a"), 4])
    assert (row.up, row.trains_policy, row.fold, row.weight, row.version) == (value == 1, True, "optimize", 1.0, 3)
    assert row.propensity == 0.25


def test_a_thumb_on_a_later_choice_gives_that_choice():
    choices = [Choice(index=i, text=f"{i}", token_ids=[i, 4], finish_reason="stop") for i in range(3)]
    (row,) = rows_of([on_completion("thumb", 1, choice_index=2)], side("1-a", choices=choices))
    assert (row.completion_text, row.completion_token_ids) == ("2", [2, 4])


def test_a_rating_and_a_correction():
    """Stars for the stored ids; the edited text, whose ids are the trainer's to make."""
    votes = [on_completion("rating", 4, name="s"), on_completion("correction", "better", name="c", rater="user-8")]
    corrected, rated = sorted(rows_of(votes, side("1-a")), key=lambda row: row.feedback_id)
    assert isinstance(rated, RatingRow)
    assert isinstance(corrected, DemonstrationRow)
    assert (rated.stars, rated.completion_token_ids, rated.completion_text) == (4, [ord("a"), 4], "text of 1-a")
    assert (corrected.text, corrected.prompt_token_ids, corrected.trains_policy) == ("better", [1, 2], True)
    assert (corrected.completion_id, corrected.version) == ("1-a", 3)


@pytest.mark.parametrize("text", ["tie", "both_bad"])
def test_a_correction_may_say_anything(text):
    """What is a value of one kind is text of another."""
    (row,) = rows_of([on_completion("correction", text)], side("1-a"))
    assert (row.text, row.trains_policy) == (text, True)


def test_comments_and_flags_give_no_rows_and_are_not_counted():
    """They are no votes; nothing of theirs was lost."""
    votes = [on_completion("comment", "nice", name="c"), on_completion("flag", "other", name="f")]
    found = select([*votes, on_completion("thumb", 1)], side("1-a"))
    assert ([it.feedback.id for it in found.votes], found.dropped) == (["fb_t"], {})


@pytest.mark.parametrize("value", ["safety", "pii", "spam", "other"])
def test_a_flag_keeps_a_completion_out(value):
    """By anybody who is heard, also on one side or on a whole comparison; `other` is for people to read."""
    sides, votes = [side("1-a"), side("1-b")], [vote(), on_completion("thumb", 1, completion="1-b")]
    flags = [
        on_completion("flag", value, completion="1-b", name="f"),
        vote(value, kind="flag", name="f", completion_ids=["1-a", "1-b"]),
    ]
    for flag in flags:
        found = select([*votes, flag], *sides)
        expected = {} if value == "other" else {"flagged": 1, "thumb_flagged": 1}
        assert {key: count for key, count in found.dropped.items() if key != "thumb_paired"} == expected


@pytest.mark.parametrize("state", [RaterState(quarantined="anomaly"), RaterState(erased=True)])
def test_who_is_set_aside_flags_nothing(state):
    """Else an attacker could keep whatever they like out of training."""
    flag = on_completion("flag", "spam", rater="user-66", name="f")
    sides, by = [side("1-a"), side("1-b")], circumstances(raters=states(user_66=state))
    assert select([vote(), flag], *sides, by=by).dropped == {}
    assert select([vote(), flag], *sides).dropped == {"flagged": 1}


def test_prompts_with_personal_data_are_no_prompts():
    """A flag of `pii` takes the whole cluster out of the prompts; one of `spam` does not."""
    logged = [LoggedPrompt(messages=[Message(role="user", content=OPTIMIZE.upper())], prompt_token_ids=[9])]
    for value, expected in (("pii", set()), ("spam", {cluster_of([Message(role="user", content=OPTIMIZE)])})):
        flag = on_completion("flag", value, name="f")
        assert select([flag], side("1-a"), prompts=logged).spellings.keys() == expected


def test_a_completion_that_stands_in_a_pair_does_not_train_by_its_thumb_too():
    """KTO and DPO would teach the same answer twice; the reward model takes both."""
    sides = [side(it) for it in ("1-a", "1-b", "2-a", "r-a", "r-b", "r-c", "3-a", "3-b")]
    votes = [vote(), ranking([["a"], ["b", "c"]]), vote("both_bad", name="3")]
    votes += [on_completion("thumb", 1, name=it, completion=it) for it in ("1-a", "1-b", "2-a", "r-c", "3-a")]
    found = rows_of(votes, *sides)
    trains = {row.feedback_id: row.trains_policy for row in found if isinstance(row, ThumbRow)}
    assert trains == {
        "fb_1-a": False,
        "fb_1-b": False,
        "fb_2-a": True,
        "fb_r-c": False,
        "fb_3-a": True,
        "fb_3": True,
    }
    assert select(votes, *sides).dropped == {"thumb_paired": 3}


def test_thumbs_of_different_prompts_are_never_paired():
    """A liked and a disliked answer to two prompts say nothing about each other."""
    sides = [side("1-a"), side("2-a", prompt=prompt_in("optimize", 1))]
    votes = [on_completion("thumb", 1), on_completion("thumb", -1, completion="2-a", name="u")]
    assert [type(row) for row in rows_of(votes, *sides)] == [ThumbRow, ThumbRow]


def test_every_vote_that_gives_no_row_is_counted():
    """By reason, and by kind but for preferences; with what was superseded and what was withdrawn."""
    changed, gone = vote(name="1"), vote("b", name="2", entry="201-0", supersedes="fb_1", completion_ids=["1-a", "1-b"])
    taken_back = vote(name="3", entry="202-0"), vote(name="3", entry="203-0", revision=2, withdrawn=True)
    votes = [changed, gone, *taken_back, vote(name="4", entry="204-0"), on_completion("thumb", 1, completion="4-a")]
    votes += [on_completion("rating", 2, completion="1-b", name="s", train=False), vote(name="5", entry="206-0")]
    stale = [side("5-a", policy_version=1), side("5-b")]
    found = select(votes, side("1-a"), side("1-b"), side("3-a"), side("3-b"), *stale)
    assert found.dropped == {
        "expired": 1,
        "rating_no_consent": 1,
        "stale": 1,
        "superseded": 1,
        "thumb_expired": 1,
        "withdrawn": 1,
    }
    assert found.excluded == {"fb_4": "expired", "fb_s": "no_consent", "fb_t": "expired"}
    assert found.withheld == {"fb_5": "stale"}
    assert [it.feedback.id for it in found.votes] == ["fb_2", "fb_5"]


def test_weights_are_trust_and_kind_of_rater():
    """A trust of 0.4 is the weight of a person's row and halved for an AI's; a propensity is the comparison's."""
    by = circumstances(weights={"user-7": 0.4})
    sides = [side("1-a", propensity=0.5), side("1-b")]
    usable = [select([vote(rater_kind=kind)], *sides, by=by, caps=Caps(ai_share=0.9)) for kind in ("human", "ai")]
    assert usable[1].votes == []
    people = [vote(name="2", rater="user-8")]
    both = select([vote(rater_kind="ai"), *people], *sides, side("2-a"), side("2-b"), by=by, caps=Caps(ai_share=0.9))
    records = {it.id: it for it in (*sides, side("2-a"), side("2-b"))}
    weights = [examples.rows(it, records, by=by)[0].weight for it in both.votes]
    assert weights == [0.2, 1.0]
    (row,) = examples.rows(usable[0].votes[0], records, by=by)
    assert (row.weight, row.propensity) == (0.4, 0.5)
    (row,) = examples.rows(usable[0].votes[0], records, by=by, propensity=0.125)
    assert row.propensity == 0.125


def prompts_of(votes: list[LoggedVote], logged: list[LoggedPrompt], *sides) -> list[str]:
    found, seen = select(votes, *sides, prompts=logged), set[str]()
    candidates = [*examples.logged_rows(logged, by=BY), *map(examples.prompt_row, rows_of(votes, *sides))]
    rows = list(examples.prompt_rows(candidates, found.spellings, seen))
    assert seen == {row.cluster for row in rows}
    return sorted(row.prompt for row in rows)


def test_prompts_are_one_per_cluster():
    """Spellings that differ in case or spaces are one prompt, which one does not depend on the order; those of votes
    are prompts too."""
    spellings = ["A  dog is", "a dog IS\n", "A cat is"]
    logged = [LoggedPrompt(messages=[Message(role="user", content=text)], prompt_token_ids=[9]) for text in spellings]
    found = prompts_of([vote()], logged, side("1-a"), side("1-b"))
    assert len(found) == 3
    assert canonical_prompt([Message(role="user", content=OPTIMIZE)]) in found
    assert prompts_of([vote()], logged[::-1], side("1-a"), side("1-b")) == found


@pytest.mark.parametrize(
    "state", [RaterState(train=False), RaterState(erased=True), RaterState(quarantined="anomaly"), RaterState()]
)
def test_prompts_of_whom_nothing_is_trained_on_are_none(state):
    """Nor do they choose the spelling of a prompt that others have asked as well."""
    asked = [("A dog", "user-9"), ("a DOG", "user-8"), ("A cat", "user-9"), ("A cow", None)]
    logged = [
        LoggedPrompt(messages=[Message(role="user", content=text)], prompt_token_ids=[9], rater=rater)
        for text, rater in asked
    ]
    by = circumstances(raters=states(user_9=state))
    found = select([], by=by, prompts=logged)
    rows = examples.prompt_rows(examples.logged_rows(logged, by=by), found.spellings, set())
    texts = sorted(json.loads(row.prompt)[0]["content"] for row in rows)
    spellings = {text: spelling_of(canonical_prompt([Message(role="user", content=text)])) for text, _ in asked[:2]}
    everybodys = sorted(["A cat", "A cow", min(spellings, key=spellings.__getitem__)])
    assert texts == (["A cow", "a DOG"] if state != RaterState() else everybodys)


def test_anonymous_raters_have_no_hash():
    """Nobody in particular is `-`; the same person is the same hash."""
    assert hashed_rater(SALT, None) == "-"
    assert hashed_rater(SALT, "x") == hashed_rater(SALT, "x") != hashed_rater(b"y", "x")


LETTERS = "abcd"
CAPS = Caps(rater_floor=3, from_raters=2, rater_share=0.1, theme_floor=4, theme_share=0.1)


@st.composite
def logs(draw: st.DrawFn) -> list[LoggedVote]:
    """Votes of every kind by few raters on few comparisons of few prompts: changed, revised, withdrawn, repeated."""
    found: list[LoggedVote] = []
    for number in range(draw(st.integers(1, 25))):
        name, entry = str(draw(st.integers(0, 5))), f"{200 + number}-0"
        who = {"rater": draw(st.sampled_from(["x", "y", "z", None])), "entry": entry, "id": f"fb_{number}"}
        who["rater_kind"] = draw(st.sampled_from(["human", "human", "ai"]))
        kind = draw(st.sampled_from(["preference", "ranking", "thumb", "rating", "correction", "flag", "comment"]))
        if kind == "preference":
            found.append(vote(draw(st.sampled_from(["a", "b", "tie", "both_bad"])), name=name, **who))
        elif kind == "ranking":
            order = draw(st.permutations(LETTERS))
            ids = [f"{name}-{letter}" for letter in LETTERS]
            target = Target(type="comparison", id=f"cmp_{name}")
            groups = [list(order[:1]), list(order[1:3]), list(order[3:])]
            found.append(vote(groups, name=name, kind="ranking", completion_ids=ids, target=target, **who))
        else:
            values = {"thumb": 1, "rating": 3, "correction": "edited", "flag": "spam", "comment": "hm"}
            completion = f"{name}-{draw(st.sampled_from(LETTERS))}"
            found.append(on_completion(kind, values[kind], completion=completion, **who))
        if draw(st.booleans()):
            earlier = draw(st.sampled_from(found)).feedback
            update = {"revision": earlier.revision + 1, "withdrawn": draw(st.booleans())}
            found.append(LoggedVote(entry=f"{200 + number}-1", feedback=earlier.model_copy(update=update)))
    return found


@settings(max_examples=60)
@given(logs(), st.randoms(use_true_random=False))
def test_rows_are_a_function_of_the_log(votes, shuffle):
    """Every kind, every bound: the order of arrival and repeated events change no row, no id, and no number."""
    records = [
        side(f"{n}-{letter}", prompt=f"prompt {n % 3}", text=f"{letter}{n % 2}") for n in range(6) for letter in LETTERS
    ]
    arrived = [*votes, *votes[: len(votes) // 2]]
    shuffle.shuffle(arrived)
    assert content_id(rows_of(arrived, *records, caps=CAPS)) == content_id(rows_of(votes, *records, caps=CAPS))
    assert rows_of(arrived, *records, caps=CAPS) == rows_of(votes, *records, caps=CAPS)
    assert select(arrived, *records, caps=CAPS).dropped == select(votes, *records, caps=CAPS).dropped


@settings(max_examples=60)
@given(logs())
def test_every_vote_has_one_fate(votes):
    """Each act of feedback gives rows, or stands under its reason, or was changed or taken back; no other has rows."""
    records = [side(f"{n}-{letter}", prompt=f"prompt {n % 3}") for n in range(6) for letter in LETTERS]
    found = select(votes, *records, caps=CAPS)
    judged = {it.feedback.id for it in votes if it.feedback.kind not in ("flag", "comment")}
    kept = {it.feedback.id for it in found.votes}
    assert {row.feedback_id for row in rows_of(votes, *records, caps=CAPS)} == kept
    assert kept.isdisjoint(found.excluded)
    assert found.withheld.keys() <= kept
    taken_back = {it.feedback.id for it in votes if it.feedback.withdrawn}
    assert judged - kept - found.excluded.keys() <= taken_back
    without_row = sum(found.dropped.values()) - len(found.withheld)
    assert without_row == len(found.excluded) + found.dropped.get("withdrawn", 0)
