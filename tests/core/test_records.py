"""Records cross processes: what is written is read, and nothing else is accepted."""

import json
import re

import pytest
from pydantic import TypeAdapter, ValidationError

from core.records import (
    AdapterManifest,
    Answer,
    AuditEvent,
    Check,
    Choice,
    Choices,
    Comparison,
    CompletionRecord,
    Conversation,
    Erasure,
    Feedback,
    GateReport,
    Message,
    OpenPairs,
    PolicyVersion,
    ProbeSequence,
    RaterEvent,
    RaterReport,
    RaterTask,
    Record,
    RegistryState,
    Run,
    Share,
    SharedHabit,
    SnapshotManifest,
    StoredRequest,
    Target,
    TrustReport,
    Turn,
    VersionDoubt,
    new_id,
    policy_name,
)

CHECK = Check(name="win_rate", value=0.48, bound="> 0.5", verdict="fail", reason="too low")
GATE = GateReport(verdict="fail", live_version=1, checks=[CHECK], metrics={"mean_tokens": 21.4}, summary="win_rate")
SHARE = Share(value=0.53, low=0.49, high=0.57, count=612)
HABIT = SharedHabit(habit="policy v3", raters=12, log10_e=9.1)
DOUBT = VersionDoubt(versions=[0, 1], covariance=[[0.8, 0.2], [0.2, 0.8]], prior=1.0)
OPEN_PAIRS = OpenPairs(pairs=[("chatcmpl-41ab", "chatcmpl-77f0")], scores=[0.31])
EXAMPLES: list[Record] = [
    Message(role="user", content="A dog is ✓"),
    Choice(index=0, text="A pet.", token_ids=[65, 301, 4], logprobs=[-0.1, -2.5, -0.0], finish_reason="stop"),
    CompletionRecord(
        id="chatcmpl-41ab",
        state="complete",
        created=1790000000.25,
        messages=[Message(role="user", content="A dog is")],
        prompt_token_ids=[1, 65],
        choices=[Choice(index=0, text="A pet.", token_ids=[65, 4])],
        sampling={"temperature": 1.0, "stop": ["x"], "seed": None},
        policy_version=3,
        adapter_sha256="9f86",
        assignment="live",
        rater="user-7",
    ),
    Comparison(
        id="cmp_1",
        created=1.5,
        completion_ids=["chatcmpl-1", "chatcmpl-2", "chatcmpl-3"],
        policy_versions=[3, 2, 2],
        order=[2, 0, 1],
        asked="active",
        propensity=0.25,
    ),
    Conversation(
        id="conv_9f86",
        rater="web-5f4d",
        title="Dogs",
        turns=[Turn(question="A dog is", answers=[Answer(text="A"), Answer(text="A pet.", thumb=-1)], shown=1)],
        revision=3,
        created=1790000000.25,
        updated=1790000300.0,
    ),
    Target(type="completion", id="chatcmpl-41ab", choice_index=1),
    Feedback(
        id="fb_1",
        target=Target(type="comparison", id="cmp_1"),
        kind="preference",
        value="tie",
        created_at=1790000003.123456,
        policy_versions=[3, 2],
        completion_ids=["chatcmpl-1", "chatcmpl-2"],
        train=True,
    ),
    Feedback(
        id="fb_2",
        revision=3,
        withdrawn=True,
        target=Target(type="comparison", id="cmp_2"),
        kind="ranking",
        value=[["b"], ["a", "c"]],
        reasons=["clear"],
        comment="naïve",
        metadata={"page": "7"},
        rater="user-7",
        source="task",
        created_at=1790000003.123456,
        occurred_at=1790000001.5,
        supersedes="fb_1",
        policy_versions=[3, 2, 2],
        completion_ids=["chatcmpl-1", "chatcmpl-2", "chatcmpl-3"],
        train=False,
    ),
    RaterEvent(rater="user-7", action="consent", train=False, actor="api", created_at=1790000100.25),
    SHARE,
    HABIT,
    RaterReport(
        rater="user-7",
        votes=41,
        judged=38,
        reliability=0.1,
        reliability_low=-0.4,
        reliability_high=0.5,
        weight=0.0,
        quarantined=True,
        reason="first side: e = 2.1e+06 after 38 votes",
        as_of=1790000100.25,
    ),
    TrustReport(
        as_of=1790000100.25,
        snapshot="5d41",
        votes=1200,
        surveyed=1100,
        raters=61,
        quarantined=3,
        alpha_nominal=0.46,
        alpha_ordinal=None,
        first=SHARE,
        longer=None,
        longer_expected=0.55,
        habits=[HABIT],
    ),
    StoredRequest(
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
        fields={"tool_choice": "auto"},
        answers={0: {"role": "assistant", "content": None, "tool_calls": []}},
        reasons={0: "tool_calls"},
    ),
    Erasure(
        id="er_5d41",
        state="done",
        requested=1790000400.25,
        finished=1790000407.5,
        counts={"feedback": 9},
        snapshots=["5d41"],
        runs=["3c59"],
        tainted=[3, 4],
    ),
    RaterTask(
        id="task_1",
        external_id="gold-7",
        kind="rank",
        target=Target(type="comparison", id="cmp_2"),
        instructions="Prefer what is *true*.",
        overlap=3,
        gold=[["b"], ["a", "c"]],
        priority=-2,
        asked="active",
        propensity=0.31,
        created=1790000000.25,
        deadline=1790604800.25,
    ),
    SnapshotManifest(
        id="5d41",
        created=1.5,
        last_event="1790000099-0",
        rows=512,
        rows_by_fold={"optimize": 361, "judge": 99, "test": 52},
        policy_rows=361,
        prompts=640,
        dropped={"tie": 31},
        thumbs=210,
        live_version=0,
        base_sha256="b",
        tokenizer_sha256="t",
    ),
    Run(id="3c59", snapshot="5d41", parent=0, recipe="{}", state="running", created=1.5, updated=2.5, version=4),
    DOUBT,
    OPEN_PAIRS,
    Choices(versions=DOUBT, clusters={"ab12": 0.4}, open_pairs=OPEN_PAIRS, members=64),
    CHECK,
    GATE,
    PolicyVersion(
        version=3,
        parent=2,
        base_sha256="b",
        adapter_sha256="9f86",
        method="dpo",
        gate=GATE,
        created=1.5,
        state="live",
    ),
    ProbeSequence(token_ids=[1, 65, 4], start=1, logprobs=[-0.2, -1.1]),
    AdapterManifest(
        sha256="9f86",
        base_sha256="b",
        tokenizer_sha256="t",
        rank=16,
        serving_dtype="float32",
        probe=[ProbeSequence(token_ids=[1, 65], start=1, logprobs=[-0.2], parent_logprobs=[-0.3])],
    ),
    RegistryState(generation=5, live=3, previous=2, next_version=5),
    AuditEvent(id="1-0", generation=5, action="promote", version=3, actor="run:3c59", reason="gate passed", at=1.5),
]


def test_every_record_is_tried_here():
    """A new record needs an example."""
    assert {type(example) for example in EXAMPLES} == {
        record for record in Record.__subclasses__() if record.__module__ == Record.__module__
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_what_is_written_is_read(example):
    """JSON and back is the same record, floats to the last bit; the schema's number is in it."""
    kind = type(example)
    assert kind.model_validate_json(example.to_json()) == example
    assert f'"schema":{kind.model_fields["schema_version"].default}' in example.to_json()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_records_are_frozen_and_know_their_fields(example):
    """No field is changed in place, and an unknown one is an error."""
    kind, name = type(example), next(iter(type(example).model_fields))
    with pytest.raises(ValidationError):
        setattr(example, name, 0)
    with pytest.raises(ValidationError):
        kind(**example.model_dump(by_alias=True), unheard_of=1)
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(example.model_dump(by_alias=True) | {"unheard_of": 1})


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_what_a_newer_process_wrote_is_read(example):
    """Stored records with fields that are unknown here, in their parts as well, are read without them."""
    kind, written = type(example), with_news(json.loads(example.to_json()))
    assert kind.model_validate_json(json.dumps(written)) == example
    assert kind.model_validate(written) == example


def with_news(value):
    """What a later Plumbline might write: another field in a record and in each that is part of it."""
    if isinstance(value, list):
        return [with_news(each) for each in value]
    if not isinstance(value, dict):
        return value
    parts = {name: with_news(part) for name, part in value.items()}
    return parts | {"unheard_of": 1} if "schema" in parts else parts


def test_feedback_of_the_first_schema_is_read():
    """An event from before there were revisions is revision 1, by a person, and stands."""
    old = (
        '{"schema":1,"id":"fb_1","target":{"schema":1,"type":"completion","id":"chatcmpl-1","choice_index":0},'
        '"kind":"thumb","value":-1,"rater":null,"created_at":1.5,"supersedes":null,"policy_versions":[0],'
        '"completion_ids":["chatcmpl-1"],"train":true,"comment":null}'
    )
    event = Feedback.model_validate_json(old)
    assert (event.schema_version, event.revision, event.withdrawn, event.value) == (1, 1, False, -1)
    assert (event.rater_kind, event.source, event.reasons, event.metadata) == ("human", "api", [], {})


def test_outline_is_the_record_without_its_bulk():
    """What a vote needs, in the record's own shape, however long the prompt."""
    record = next(example for example in EXAMPLES if isinstance(example, CompletionRecord))
    longer = record.model_copy(update={"prompt_token_ids": [1] * 10_000})
    expected = '{"choices":[{"index":0}],"sampling":{},"policy_version":3,"rater":"user-7","train":true,'
    assert longer.outline() == record.outline() == expected + '"comparison_id":null,"tenant":""}'


@pytest.mark.parametrize("value", [True, 1.5, None, [["a"], [1]], {"a": 1}])
def test_value_is_of_no_other_type(value):
    """A value is a whole number, a text or groups of sides, and nothing is converted."""
    example = next(example for example in EXAMPLES if isinstance(example, Feedback))
    with pytest.raises(ValidationError):
        Feedback.model_validate(example.model_dump(by_alias=True) | {"value": value})


def test_run_is_read_from_the_strings_of_its_hash():
    """Redis holds strings; numbers come back as numbers."""
    run = next(example for example in EXAMPLES if isinstance(example, Run))
    strings = {name: str(value) for name, value in run.model_dump(by_alias=True).items() if value is not None}
    assert Run.model_validate(strings) == run


def test_ids_are_random_and_say_what_they_are():
    """128 random bits after the prefix."""
    found = {new_id("fb_") for _ in range(100)}
    assert len(found) == 100
    assert all(re.fullmatch(r"fb_[0-9a-f]{32}", identifier) for identifier in found)
    assert policy_name(7) == "assistant@v7"


def test_what_cannot_be_read_is_not_quoted() -> None:
    """A record that does not fit says where, not what: errors end in logs, and records hold what people wrote."""
    broken = '{"role": "user", "content": {"secret": "words"}}'
    with pytest.raises(ValidationError) as refused:
        Message.model_validate_json(broken)
    assert "content" in str(refused.value) and "words" not in str(refused.value)
