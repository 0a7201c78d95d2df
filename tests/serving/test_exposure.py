"""What a chat leaves for the guardrails: which chats, what is seen in them; that nothing waits or is counted twice."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from core import exposures
from core.exposures import Ended
from core.records import CompletionRecord, CompletionState
from core.redis import connect_async
from serving.assignment import Assignment
from serving.exposure import Exposures, ended
from serving.protocol import Capture, Sampled
from tests.serving.redis_process import RedisProcess

CANARY = Assignment(version=7, adapter_sha256="9f", how="canary", propensity=0.1, release="rel_7")
LIVE = Assignment(version=5, adapter_sha256="ab", how="live", propensity=0.9, release="rel_7")
RECORD = CompletionRecord(
    id="chatcmpl-1",
    state=CompletionState.STREAMING,
    created=100.0,
    policy_version=7,
    adapter_sha256="9f",
    assignment="canary",
    rater="user-7",
)


def note(
    assignment: Assignment = CANARY,
    *,
    record: Mapping[str, Any] | None = None,
    state: CompletionState = CompletionState.COMPLETE,
    **choice: Any,
) -> Ended | None:
    sampled = Sampled(**({"text": "A pet.", "token_ids": [65, 301, 4], "finish_reason": "stop"} | choice))
    capture = Capture(choices={0: sampled})
    return ended(assignment, RECORD.model_copy(update=dict(record or {})), capture, state, finished=101.5)


def test_a_healthy_answer_by_hand() -> None:
    """Arm and share from how the version was chosen, the time to the last token, nothing wrong with it."""
    expected = Ended(
        release="rel_7",
        arm="candidate",
        share=0.1,
        rater="user-7",
        failed=False,
        empty=False,
        refuses=False,
        loops=False,
        cut_off=False,
        tokens=3,
        seconds=1.5,
    )

    assert note() == expected
    incumbent = note(LIVE)
    assert incumbent is not None
    assert (incumbent.arm, incumbent.share) == ("incumbent", 0.1)


@pytest.mark.parametrize(
    ("assignment", "record"),
    [
        (Assignment(version=5, adapter_sha256="ab", how="live", propensity=1.0), {}),
        (Assignment(version=7, adapter_sha256="9f", how="pinned", propensity=1.0), {}),
        (CANARY, {"comparison_id": "cmp_1"}),
    ],
)
def test_what_is_no_traffic_of_a_release(assignment: Assignment, record: Mapping[str, Any]) -> None:
    """Without a release, pinned by name, or a side of a comparison."""
    assert note(assignment, record=record) is None


@pytest.mark.parametrize(
    ("choice", "sign"),
    [
        ({"text": " \n"}, "empty"),
        ({"text": "I can not help with that ."}, "refuses"),
        ({"token_ids": [5] * 20}, "loops"),
        ({"finish_reason": "length"}, "cut_off"),
    ],
)
def test_signs(choice: dict[str, Any], sign: str) -> None:
    """Each by itself."""
    found = note(**choice)

    assert found is not None
    assert [name for name in ("failed", "empty", "refuses", "loops", "cut_off") if getattr(found, name)] == [sign]


def test_how_it_ended_matters() -> None:
    """A failure is one whatever was said; who hung up before the first word met no empty answer, but a loop is one."""
    failed = note(state=CompletionState.FAILED, text="", token_ids=[])
    gone = note(state=CompletionState.ABORTED, text="", token_ids=[])
    looping = note(state=CompletionState.ABORTED, token_ids=[5] * 20)

    assert failed is not None and gone is not None and looping is not None
    assert (failed.failed, failed.empty) == (True, False)
    assert (gone.failed, gone.empty) == (False, False)
    assert looping.loops


def test_notes_of_several_releases_are_all_counted(redis_server: str, redis_client: redis.Redis) -> None:
    """In the order in which they came, however many there are."""

    async def work() -> None:
        async with connect_async(redis_server) as client:
            notes = Exposures(client)
            for _ in range(700):
                notes.note(note(record={"rater": None}))
            notes.note(None)
            other = Assignment(version=8, adapter_sha256="cd", how="canary", propensity=0.1, release="rel_8")
            notes.note(note(other))
            notes.note(note(LIVE))
            await notes.send()
            await notes.send()

    asyncio.run(work())
    arms = exposures.read(redis_client, "rel_7", share=0.1)
    assert (arms["candidate"].staged, arms["incumbent"].staged) == (700, 1)
    assert exposures.read(redis_client, "rel_8", share=0.1)["candidate"].staged == 1


def test_without_redis_notes_wait(store: RedisProcess) -> None:
    """Nothing is lost while it is away, and nothing is counted twice when it is back."""

    async def work() -> None:
        async with connect_async(store.url) as client:
            notes = Exposures(client)
            notes.note(note())
            await notes.send()
            store.stop()
            notes.note(note())
            await notes.send()
            notes.note(note())
            store.start()
            await notes.send()
            await notes.send()

    asyncio.run(work())
    assert exposures.read(store.client(), "rel_7", share=0.1)["candidate"].staged == 3
