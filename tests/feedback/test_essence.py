"""The part of a record that decides about rows."""

import msgspec
import pytest

from core.records import Choice, Comparison, CompletionRecord, Feedback, Message, Record, Target
from feedback import essence

VOTES = [
    Feedback(
        id="fb_1",
        revision=3,
        withdrawn=True,
        target=Target(type="completion", id="chatcmpl-1", choice_index=2),
        kind="correction",
        value="A pet.",
        reasons=["wrong"],
        comment="hm",
        metadata={"task": "task_1"},
        rater="user-7",
        rater_kind="ai",
        source="task",
        created_at=1.5,
        occurred_at=1.0,
        supersedes="fb_0",
        policy_versions=[3],
        completion_ids=["chatcmpl-1"],
        train=True,
    ),
    Feedback(
        id="fb_2",
        target=Target(type="comparison", id="cmp_1"),
        kind="ranking",
        value=[["b"], ["a", "c"]],
        created_at=2.5,
        policy_versions=[3, 3, 2],
        completion_ids=["1", "2", "3"],
        train=False,
    ),
]
COMPLETIONS = [
    CompletionRecord(
        id="chatcmpl-1",
        state="complete",
        created=1.5,
        messages=[Message(role="user", content="Whät\n😀?")],
        prompt_token_ids=[1, 2],
        choices=[Choice(index=0, text="A pet.", token_ids=[3, 4], logprobs=[-1.0, -2.0], finish_reason="stop")],
        sampling={"n": 1},
        policy_version=3,
        adapter_sha256="00",
        assignment="live",
        propensity=0.25,
        rater="user-7",
        train=False,
        finished=2.0,
    ),
    CompletionRecord(
        id="chatcmpl-2", state="streaming", created=1.5, policy_version=3, adapter_sha256="00", assignment="pinned"
    ),
]
COMPARISONS = [
    Comparison(
        id="cmp_1",
        created=1.5,
        completion_ids=["1", "2"],
        policy_versions=[3, 2],
        order=[1, 0],
        asked="active",
        propensity=0.5,
    )
]


@pytest.mark.parametrize(
    ("read", "record"),
    [
        *((essence.feedback, vote) for vote in VOTES),
        *((essence.completion, completion) for completion in COMPLETIONS),
        *((essence.comparison, comparison) for comparison in COMPARISONS),
    ],
)
def test_an_essence_says_what_its_record_says(read, record: Record):
    """In each field that it has; what is left out is at its default, and the rest is passed over."""
    for stored in (record.to_json(), record.model_dump_json(by_alias=True, exclude_defaults=True)):
        said = msgspec.to_builtins(read(stored))
        assert _within(said, record.model_dump(mode="json"))


def _within(said: object, whole: object) -> bool:
    if isinstance(said, dict) and isinstance(whole, dict):
        return said.keys() <= whole.keys() and all(_within(it, whole[name]) for name, it in said.items())
    if isinstance(said, list) and isinstance(whole, list):
        return len(said) == len(whole) and all(map(_within, said, whole))
    return said == whole


def test_a_damaged_record_is_an_error():
    """It is never read as something else."""
    with pytest.raises(msgspec.ValidationError):
        essence.feedback('{"id":"fb_1"}')
