"""Shadow mode over the real API: who is answered once more, that nobody sees it, and that everybody goes before it."""

import asyncio

import httpx
import pytest
from prometheus_client import REGISTRY

from core import exposures, keys, releases, shadow
from serving.shadow import LOOK_S
from tests.serving import policies
from tests.serving.conftest import FakeStack

RELEASE = "rel_1"


@pytest.fixture
def unseen(idle_stack: FakeStack) -> FakeStack:
    """Version 0 is live, version 1 at the stage that nobody sees; every chat is answered once more."""
    return begun(idle_stack, share=1.0)


def begun(stack: FakeStack, *, share: float, max_answers: int = 256) -> FakeStack:
    stack.settings = stack.settings.model_copy(update={"shadow": share, "max_answers": max_answers})
    live = stack.rebuild()
    policies.initialise(stack.client, stack.publish())
    policies.publish(stack.client, stack.publish(), stage=releases.SHADOW)
    live.start()
    live.wait_for_live(0)
    live.wait(lambda: (residents := live.serving.replica.residents) is not None and residents.canary is not None)
    return stack


def waiting(stack: FakeStack) -> set[str]:
    """Chats whose like waits for the judge."""
    return set(map(str, stack.client.smembers(keys.shadow_waiting(RELEASE))))  # type: ignore[arg-type]


def answered_once_more(stack: FakeStack, answer: httpx.Response) -> None:
    completion = answer.json()["id"]
    stack.live.wait(lambda: completion in waiting(stack), timeout_s=20)


def became(result: str) -> float:
    return REGISTRY.get_sample_value("plumbline_shadow_answers_total", {"result": result}) or 0.0


async def somebody(stack: FakeStack, *, comes: bool) -> None:
    """Takes a place, as a chat would, or gives it back."""
    if comes:
        stack.live.serving.admission.enter(1)
    else:
        stack.live.serving.admission.leave(1, since=None)


def test_a_chat_is_answered_once_more(unseen: FakeStack) -> None:
    """By the candidate, as it was asked; the user has the live version's answer."""
    answer = unseen.live.chat("A cat is", user="ann", max_tokens=5, temperature=0.5)
    assert (answer.json()["model"], answer.headers["x-policy-version"]) == ("assistant@v0", "0")
    answered_once_more(unseen, answer)
    first, second = unseen.engine.seen
    assert second == first | {"model": "assistant@v1"}
    (pair,) = shadow.take(unseen.client, RELEASE, most=9)
    assert (pair.completion, pair.candidate) == (answer.json()["id"], [0, 1, 2, 3, 4])


def test_a_stream_is_asked_for_whole(unseen: FakeStack) -> None:
    """Nobody reads the chunks of what nobody sees."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    assert unseen.live.post("/v1/chat/completions", body | options).text.endswith("data: [DONE]\n\n")
    unseen.live.wait(lambda: len(waiting(unseen)) == 1, timeout_s=20)
    assert unseen.engine.seen[1].keys().isdisjoint(options)


def test_it_is_no_traffic(unseen: FakeStack) -> None:
    """One record, one note for the guardrails, nothing of the candidate's; the chat's own life is not prolonged."""
    answer = unseen.live.chat(user="ann")
    before = unseen.client.ttl(keys.completion(answer.json()["id"]))
    answered_once_more(unseen, answer)
    assert [*unseen.client.scan_iter(keys.completion("*"))] == [keys.completion(answer.json()["id"])]
    assert 0 < unseen.client.ttl(keys.completion(answer.json()["id"])) <= before
    unseen.live.call(unseen.live.serving.exposures.send())
    arms = exposures.read(unseen.client, RELEASE, share=0.0)
    assert (arms["incumbent"].staged, arms["candidate"].staged) == (1, 0)


@pytest.mark.parametrize("fields", [{"store": False}, {"train": False}, {"n": 2}, {"model": "assistant@v0"}])
def test_only_what_may_be_trained_on(unseen: FakeStack, fields: dict[str, object]) -> None:
    """Neither chats whose text is not kept or may not be trained on, nor several answers, nor pinned versions."""
    unseen.live.chat(**fields)
    answered_once_more(unseen, unseen.live.chat())
    assert len(unseen.engine.seen) == 3
    assert len(waiting(unseen)) == 1


def test_nobody_is_shown_the_candidate(unseen: FakeStack) -> None:
    """Whoever asks, and whatever comparison is drawn: both sides are the live version's."""
    for number in range(20):
        assert unseen.live.chat(user=f"user-{number}", store=False).headers["x-policy-version"] == "0"
        body = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 1, "store": False}
        assert unseen.live.post("/v1/comparisons", body).status_code == 201
    assert {it["model"] for it in unseen.engine.seen} <= {"assistant", "assistant@v0"}
    assert waiting(unseen) == set()


def test_no_share_no_shadow(idle_stack: FakeStack) -> None:
    """The stage alone asks nobody anything."""
    stack = begun(idle_stack, share=0.0)
    for _ in range(5):
        stack.live.chat()
    stack.live.call(asyncio.sleep(3 * LOOK_S))
    assert [it["model"] for it in stack.engine.seen] == ["assistant"] * 5


def test_a_user_comes_first(idle_stack: FakeStack) -> None:
    """On a replica with few places one chat is a crowd: it cuts off what nobody waits for, and is answered."""
    stack, before = begun(idle_stack, share=1.0, max_answers=4), became("gave_way")
    stack.engine.pause_s["assistant@v1"] = 60.0
    stack.live.chat()
    stack.live.wait(lambda: stack.engine.running == 1, timeout_s=20)
    assert stack.live.chat(store=False).status_code == 200
    stack.live.wait(lambda: became("gave_way") == before + 1, timeout_s=20)
    assert (stack.engine.cancelled, stack.engine.running) == (1, 0)
    assert stack.live.serving.replica.in_flight == 0
    assert waiting(stack) == set()


def test_while_it_is_crowded_nothing_begins(idle_stack: FakeStack) -> None:
    """It waits until the others have their answers."""
    stack = begun(idle_stack, share=1.0, max_answers=4)
    stack.live.call(somebody(stack, comes=True))
    answer = stack.live.chat()
    stack.live.call(asyncio.sleep(3 * LOOK_S))
    assert len(stack.engine.seen) == 1
    stack.live.call(somebody(stack, comes=False))
    answered_once_more(stack, answer)


def test_a_stop_waits_for_users_only(idle_stack: FakeStack) -> None:
    """What nobody waits for is cut off first."""
    stack = begun(idle_stack, share=1.0)
    stack.engine.pause_s["assistant@v1"] = 60.0
    stack.live.chat()
    stack.live.wait(lambda: stack.engine.running == 1, timeout_s=20)
    stack.live.stop()
    assert (stack.engine.cancelled, stack.live.serving.replica.in_flight) == (1, 0)


def test_its_stage_is_over_with_its_first_user(idle_stack: FakeStack) -> None:
    """What still waits then is not written, and nothing more is drawn."""
    stack, before = begun(idle_stack, share=1.0, max_answers=4), became("dropped")

    stack.live.call(somebody(stack, comes=True))
    stack.live.chat()
    releases.advance(stack.client, RELEASE, from_stage=releases.SHADOW, reason="test")
    stack.live.wait(lambda: stack.live.serving.replica.residents.canary.share == 0.01, timeout_s=20)  # type: ignore[union-attr]
    stack.live.call(somebody(stack, comes=False))
    stack.live.wait(lambda: became("dropped") == before + 1, timeout_s=20)
    stack.live.chat("Behind the candidate's place.", user="user-1")
    stack.live.call(asyncio.sleep(3 * LOOK_S))
    assert [it["model"] for it in stack.engine.seen] == ["assistant"] * 2
