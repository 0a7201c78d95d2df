"""From votes and records to rows: every vote gives a row or is counted under its reason."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.records import Choice, CompletionRecord, CompletionState, Feedback, Message, Target
from feedback import examples
from feedback.events import LoggedPrompt, LoggedVote
from feedback.examples import Freshness
from feedback.snapshot import cluster_of, content_id, fold_of

SALT = b"salt"
FRESH = Freshness(versions=frozenset({3, 2}), since="100-0")


def prompt_in(fold: str) -> str:
    """A prompt text whose cluster falls into `fold`."""
    texts = (f"prompt {index}" for index in range(1000))
    return next(text for text in texts if fold_of(SALT, cluster_of([Message(role="user", content=text)])) == fold)


def side(identifier: str, *, prompt: str = "", finish_reason: str = "stop", **given: object) -> CompletionRecord:
    text = str(given.pop("text", f"text of {identifier}"))
    fields: dict[str, object] = {
        "id": identifier,
        "state": CompletionState.COMPLETE,
        "created": 1.0,
        "messages": [Message(role="user", content=prompt or prompt_in("optimize"))],
        "prompt_token_ids": [1, 2],
        "choices": [Choice(index=0, text=text, token_ids=[ord(text[-1]), 4], finish_reason=finish_reason)],
        "policy_version": 3,
        "adapter_sha256": "00",
        "assignment": "comparison",
    }
    return CompletionRecord.model_validate(fields | given)


def vote(value: str = "a", *, entry: str = "200-0", name: str = "1", **given: object) -> LoggedVote:
    fields: dict[str, object] = {
        "id": f"fb_{name}",
        "target": Target(type="comparison", id=f"cmp_{name}"),
        "kind": "preference",
        "value": value,
        "rater": "user-7",
        "created_at": float(entry.split("-")[0]) / 1000,
        "policy_versions": [3, 3],
        "completion_ids": [f"{name}-a", f"{name}-b"],
        "train": True,
    }
    return LoggedVote(entry=entry, feedback=Feedback.model_validate(fields | given))


def build(votes: list[LoggedVote], *sides: CompletionRecord, prompts: list[LoggedPrompt] | None = None):
    records = {record.id: record for record in sides}
    return examples.build(votes, records, prompts or [], salt=SALT, freshness=FRESH)


@pytest.mark.parametrize(("value", "chosen", "rejected"), [("a", "1-a", "1-b"), ("b", "1-b", "1-a")])
def test_vote_gives_a_pair_with_the_stored_ids(value, chosen, rejected):
    """The side that was voted for is chosen; token ids and texts are those of the records."""
    found = build([vote(value)], side("1-a"), side("1-b", policy_version=2))
    (row,) = found.pairs
    assert (row.chosen_text, row.rejected_text) == (f"text of {chosen}", f"text of {rejected}")
    assert (row.chosen_token_ids, row.rejected_token_ids) == ([ord(chosen[-1]), 4], [ord(rejected[-1]), 4])
    assert (row.chosen_version, row.rejected_version) == ((3, 2) if value == "a" else (2, 3))
    assert (row.tie, row.trains_policy, row.weight, row.fold) == (False, True, 1.0, "optimize")
    assert row.prompt == f'[{{"role":"user","content":"{prompt_in("optimize")}"}}]'
    assert row.rater not in ("user-7", "-")
    assert found.dropped == {}


@pytest.mark.parametrize(
    ("reason", "a", "b"),
    [
        ("truncated", {}, {"finish_reason": "length"}),
        ("truncated", {"state": CompletionState.ABORTED}, {}),
        ("no_consent", {"train": False}, {}),
        ("no_consent", {"messages": []}, {}),
        ("identical", {"text": "same"}, {"text": "same"}),
    ],
)
def test_vote_without_a_row_is_counted_by_reason(reason, a, b):
    """Nothing is dropped without a number."""
    found = build([vote()], side("1-a", **a), side("1-b", **b))
    assert (found.pairs, found.dropped) == ([], {reason: 1})


def test_expired_and_superseded():
    """A vote whose completion is gone, and a vote that was changed, are counted."""
    votes = [vote("a", name="1"), vote("b", name="2", entry="201-0"), vote("a", name="3", entry="202-0")]
    votes[2] = dataclasses.replace(
        votes[2], feedback=votes[2].feedback.model_copy(update={"supersedes": "fb_2", "completion_ids": ["2-a", "2-b"]})
    )
    found = build(votes, side("1-a"), side("2-a"), side("2-b"))
    assert found.dropped == {"expired": 1, "superseded": 1}
    assert [row.feedback_id for row in found.pairs] == ["fb_3"]


def test_tie_trains_the_reward_model_only():
    """A tie is a row, left and right as shown, that does not train the policy."""
    found = build([vote("tie")], side("1-a"), side("1-b"))
    (row,) = found.pairs
    assert (row.tie, row.trains_policy, row.chosen_text) == (True, False, "text of 1-a")
    assert found.dropped == {"tie": 1}


@pytest.mark.parametrize(
    ("given", "trains", "dropped"),
    [
        ({}, True, {}),
        ({"version": 2}, True, {}),
        ({"version": 1}, False, {"stale": 1}),
        ({"entry": "100-0"}, False, {}),
        ({"entry": "100-1"}, True, {}),
        ({"fold": "judge"}, False, {}),
        ({"fold": "test"}, False, {}),
    ],
)
def test_which_rows_train_the_policy(given, trains, dropped):
    """Only fresh versions, only votes after the live policy's snapshot, only the optimize fold."""
    prompt, version = prompt_in(given.get("fold", "optimize")), given.get("version", 3)
    sides = [side("1-a", prompt=prompt), side("1-b", prompt=prompt, policy_version=version)]
    found = build([vote(entry=given.get("entry", "200-0"))], *sides)
    assert [row.trains_policy for row in found.pairs] == [trains]
    assert found.dropped == dropped


def thumb(name: str = "t", *, completion: str = "1-a", value: int = 1, **given: object) -> LoggedVote:
    index = int(given.pop("choice_index", 0))
    target = Target(type="completion", id=completion, choice_index=index)
    fields = {"target": target, "completion_ids": [completion], "policy_versions": [3]}
    return vote(value, name=name, kind="thumb", **(fields | given))


@pytest.mark.parametrize("value", [1, -1])
def test_a_thumb_gives_a_row_with_the_stored_ids(value):
    """The completion's own ids and text; up or down; it trains the policy."""
    found = build([thumb(value=value)], side("1-a"))
    (row,) = found.thumbs
    assert (row.completion_id, row.completion_text, row.completion_token_ids) == ("1-a", "text of 1-a", [ord("a"), 4])
    assert (row.up, row.trains_policy, row.fold, row.weight, row.version) == (value == 1, True, "optimize", 1.0, 3)
    assert (found.pairs, found.dropped) == ([], {})
    assert [it.cluster for it in found.prompts] == [row.cluster]


def test_a_thumb_on_a_later_choice_gives_that_choice():
    choices = [Choice(index=i, text=f"{i}", token_ids=[i, 4], finish_reason="stop") for i in range(3)]
    (row,) = build([thumb(choice_index=2)], side("1-a", choices=choices)).thumbs
    assert (row.completion_text, row.completion_token_ids) == ("2", [2, 4])


def test_a_completion_that_stands_in_a_pair_does_not_train_by_its_thumb_too():
    """KTO and DPO would teach the same answer twice; the reward model takes both."""
    sides = [side("1-a"), side("1-b"), side("2-a")]
    votes = [vote(), thumb("x"), thumb("y", completion="2-a"), thumb("z", completion="1-b", value=-1)]
    found = build(votes, *sides)
    assert [row.trains_policy for row in found.thumbs] == [False, True, False]
    assert found.dropped == {"thumb_paired": 2}


@pytest.mark.parametrize(
    ("record", "given", "trains", "dropped"),
    [
        ({"finish_reason": "length"}, {}, [], {"thumb_truncated": 1}),
        ({"state": CompletionState.ABORTED}, {}, [], {"thumb_truncated": 1}),
        ({"train": False}, {}, [], {"thumb_no_consent": 1}),
        ({"id": "other"}, {}, [], {"thumb_expired": 1}),
        ({"policy_version": 1}, {}, [False], {"thumb_stale": 1}),
        ({}, {"entry": "100-0"}, [False], {}),
        ({"prompt": prompt_in("test")}, {}, [False], {}),
    ],
)
def test_thumbs_follow_the_rules_of_pairs(record, given, trains, dropped):
    """Consent, a finished answer, a fresh version, newer than the live policy's snapshot, the optimize fold."""
    found = build([thumb(**given)], side(str(record.pop("id", "1-a")), **record))
    assert [row.trains_policy for row in found.thumbs] == trains
    assert found.dropped == dropped


def many(people: int, machines: int, *, prompt: str = "") -> tuple[list[LoggedVote], list[CompletionRecord]]:
    """Votes on comparisons of their own: people's first, then those of an AI rater."""
    kinds = ["human"] * people + ["ai"] * machines
    votes = [vote(name=str(i), entry=f"{200 + i}-0", rater_kind=kind) for i, kind in enumerate(kinds)]
    return votes, [side(f"{i}-{s}", prompt=prompt) for i in range(len(kinds)) for s in "ab"]


@pytest.mark.parametrize(("people", "machines", "kept"), [(7, 5, 3), (7, 2, 2), (0, 5, 0), (14, 9, 6), (6, 9, 2)])
def test_ai_raters_have_at_most_three_tenths_of_the_rows(people, machines, kept):
    """The newest are kept, at half a person's weight; the others are counted."""
    votes, sides = many(people, machines)
    found = build(votes, *sides)
    ai = [row for row in found.pairs if row.rater_kind == "ai"]
    assert [row.feedback_id for row in ai] == [f"fb_{i}" for i in range(people + machines - kept, people + machines)]
    assert {row.weight for row in ai} <= {0.5}
    assert len(found.pairs) == people + kept
    assert found.dropped == ({"ai_share": machines - kept} if machines > kept else {})
    assert all(row.trains_policy for row in found.pairs)


def test_ai_raters_have_at_most_three_tenths_of_the_policy_rows():
    """Where people's rows are stale, fewer of an AI's may train the policy than the reward model."""
    votes, sides = many(7, 3)
    votes[:4] = [dataclasses.replace(it, entry="1-0") for it in votes[:4]]
    found = build(votes, *sides)
    assert [row.trains_policy for row in found.pairs] == [False] * 4 + [True] * 3 + [False, False, True]
    assert found.dropped == {"ai_policy_share": 2}


@pytest.mark.parametrize("fold", ["judge", "test"])
def test_ai_raters_never_judge_or_test(fold):
    """What decides about a policy comes from people."""
    votes, sides = many(7, 2, prompt=prompt_in(fold))
    found = build(votes, *sides)
    assert [row.rater_kind for row in found.pairs] == ["human"] * 7
    assert found.dropped == {"ai_fold": 2}


def test_prompts_are_one_per_cluster():
    """Spellings that differ in case or spaces are one prompt; those of the pairs are prompts too."""
    spellings = ["A  dog is", "a dog IS\n", "A cat is"]
    logged = [LoggedPrompt(messages=[Message(role="user", content=text)], prompt_token_ids=[9]) for text in spellings]
    found = build([vote()], side("1-a"), side("1-b"), prompts=logged)
    clusters = {cluster_of([Message(role="user", content=text)]) for text in ("a dog is", "a cat is")}
    assert {row.cluster for row in found.prompts} == clusters | {found.pairs[0].cluster}
    assert len(found.prompts) == 3
    assert build([], prompts=logged).prompts == build([], prompts=logged[::-1]).prompts


def test_anonymous_raters_have_no_hash():
    """Nobody in particular is `-`; the same person is the same hash."""
    assert examples.hashed_rater(SALT, None) == "-"
    assert examples.hashed_rater(SALT, "x") == examples.hashed_rater(SALT, "x") != examples.hashed_rater(b"y", "x")


@given(st.permutations(range(8)), st.integers(0, 8))
def test_rows_are_a_function_of_the_log(order, grown):
    """Arrival order changes no row and no id, and a vote keeps its row and its fold while the log grows."""
    sides = [side(f"{i}-{s}", prompt=f"prompt {i}") for i in range(8) for s in "ab"]
    votes = [vote("ab"[i % 2], name=str(i), entry=f"{200 + i}-0") for i in range(8)]
    whole = build(votes, *sides)
    shuffled = build([votes[i] for i in order], *sides)
    assert content_id(shuffled.pairs, [], shuffled.prompts) == content_id(whole.pairs, [], whole.prompts)
    assert build(votes[:grown], *sides).pairs == whole.pairs[:grown]
