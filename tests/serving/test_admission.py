"""Admission: as many answers at once as the limit says, and a time to come back for each of the others."""

import asyncio
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Overloaded
from serving.admission import MOST_S, Admission
from tests.serving import policies
from tests.serving.conftest import FakeStack

ASK: Any = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}
CAPACITY = 4


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def small(idle_stack: FakeStack) -> FakeStack:
    """A stack that writes four answers at once."""
    idle_stack.settings = idle_stack.settings.model_copy(update={"max_answers": CAPACITY})
    idle_stack.rebuild()
    policies.initialise(idle_stack.client, idle_stack.publish())
    idle_stack.live.start()
    idle_stack.live.wait_for_live(0)
    return idle_stack


def _waits(admission: Admission) -> str:
    return admission.overloaded().headers()["retry-after"]


@given(st.lists(st.integers(1, 5), max_size=40))
def test_the_limit_holds(asked: list[int]) -> None:
    """Whoever comes, never more than ten are inside; a refusal takes nothing, and all places come back."""
    admission, inside = Admission(10), []
    for answers in asked:
        if sum(inside) + answers <= 10:
            admission.enter(answers)
            inside.append(answers)
        else:
            with pytest.raises(Overloaded):
                admission.enter(answers)
            admission.leave(inside.pop(0), since=None)
        assert admission.inside == sum(inside) <= 10
    for answers in inside:
        admission.leave(answers, since=None)
    assert admission.inside == 0


def test_the_wait_follows_from_how_long_answers_take() -> None:
    """Eight places and four seconds for an answer are two answers a second, however idle it was in between: the fifth
    client in line is told two and a half seconds, rounded up."""
    clock = Clock()
    admission = Admission(8, clock=clock)
    for _ in range(3):
        admission.enter(1)
        clock.now += 4
        admission.leave(1, since=clock.now - 4)
        clock.now += 1000
    assert admission.drain_rate() == 2.0
    assert [_waits(admission) for _ in range(5)] == ["1", "1", "2", "2", "3"]


def test_before_anything_ended_one_a_second_is_promised() -> None:
    """And places that were promised in vain are free again when their time is over."""
    clock = Clock()
    admission = Admission(1, clock=clock)
    assert [_waits(admission) for _ in range(3)] == ["1", "2", "3"]
    clock.now += 10
    assert _waits(admission) == "1"


def test_no_wait_is_longer_than_clients_obey() -> None:
    """However many are turned away."""
    admission = Admission(1, clock=Clock())
    assert {float(_waits(admission)) <= MOST_S for _ in range(500)} == {True}


# --- over HTTP --------------------------------------------------------------------------------------------------------


def test_ten_times_what_fits_is_answered_in_turn(small: FakeStack) -> None:
    """Forty clients at once on four places: never more than four in the engine; the others are told when to come back,
    OpenAI's client obeys, and in the end everybody has an answer."""
    peak = 0

    async def storm() -> list[str]:
        nonlocal peak
        async with openai.AsyncOpenAI(base_url=small.live.url + "/v1", api_key="none", max_retries=50) as client:
            calls = [asyncio.create_task(client.chat.completions.create(**ASK)) for _ in range(10 * CAPACITY)]
            while not all(call.done() for call in calls):
                peak = max(peak, small.engine.running)
                await asyncio.sleep(0.005)
            return [call.result().id for call in calls]

    small.engine.pause_s = {"assistant@v0": 0.01}
    assert small.live.chat().status_code == 200  # from then on it is known how long an answer takes
    assert len(set(asyncio.run(storm()))) == 10 * CAPACITY
    assert 0 < peak <= CAPACITY
    assert small.live.serving.chats._admission.inside == 0


def test_who_is_turned_away_is_told_so(small: FakeStack) -> None:
    """503 in OpenAI's shape with `Retry-After`, and nothing of it stays; the four inside are answered."""
    small.engine.gate.clear()

    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=small.live.url, timeout=30) as client:
            calls = [asyncio.create_task(client.post("/v1/chat/completions", json=ASK)) for _ in range(CAPACITY)]
            while small.engine.running < CAPACITY:
                await asyncio.sleep(0.01)
            small.live.call(small.live.serving.chats.drain())  # the four's records are written beside the engine's work
            kept = set(small.client.keys("plumbline:completion:*"))
            assert len(kept) == CAPACITY
            turned_away = await asyncio.gather(*(client.post("/v1/chat/completions", json=ASK) for _ in range(6)))
            small.live.call(small.live.serving.chats.drain())
            assert set(small.client.keys("plumbline:completion:*")) == kept
            small.engine.gate.set()
            assert [(await call).status_code for call in calls] == [200] * CAPACITY
            return list(turned_away)

    refused = asyncio.run(crowd())
    assert {answer.status_code for answer in refused} == {503}
    error = refused[0].json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "engine_overloaded", None)
    assert sorted(int(answer.headers["retry-after"]) for answer in refused) == [1, 2, 3, 4, 5, 6]
    assert {answer.headers["x-should-retry"] for answer in refused} == {"true"}
    assert small.live.serving.replica.in_flight == 0


def test_sides_and_choices_are_answers(small: FakeStack) -> None:
    """A comparison of five, and `n` of five, do not fit on four places; nothing is taken for them."""
    body = {"messages": ASK["messages"], "n": 5}
    assert small.live.post("/v1/comparisons", body).status_code == 503
    assert small.live.chat(n=5).status_code == 503
    assert small.live.serving.chats._admission.inside == 0
    assert small.live.serving.replica.in_flight == 0
    assert small.live.post("/v1/comparisons", body | {"n": 4}).status_code == 201
    assert small.live.chat(n=4).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_places_come_back_however_a_chat_ends(small: FakeStack, stream: bool) -> None:
    """Refused, failed, or cut off by the client."""
    assert small.live.chat(temperature=-1, stream=stream).status_code == 400
    small.engine.fail_after = 1
    assert small.live.chat(stream=stream).status_code in (200, 500)
    small.engine.fail_after = None
    small.engine.gate.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(small.live.url + "/v1/chat/completions", json=ASK | {"stream": stream}, timeout=0.3)
    small.live.wait(lambda: small.live.serving.chats._admission.inside == 0, timeout_s=10)
    small.engine.gate.set()
    assert small.live.chat(stream=stream).status_code == 200
