"""A poisoned candidate at 10 % of traffic: the real API, a real Redis and the controller; only the engine is a fake."""

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from core import releases
from core.records import policy_name
from core.releases import STAGES, Release
from plumbline import release as controller
from tests.serving import policies
from tests.serving.conftest import FakeStack

PEOPLE, AT_ONCE, LIMIT_S = 400, 4, 60.0
POISON = {
    "empty": ("", None),
    "looping": ("round ", 7),
    "refusing": ("I can not help with that . ", None),
}


@contextmanager
def controlled(stack: FakeStack) -> Iterator[None]:
    """The scheduler's thread."""
    config = stack.settings.model_copy(update={"redis_url": stack.store.url})
    stopping = threading.Event()
    thread = threading.Thread(target=controller.run, args=(config, stopping))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def opened(stack: FakeStack) -> Release:
    """A release at 10 %, on this replica too."""
    version = policies.publish(stack.client, stack.publish())
    stack.engine.words = {policy_name(version): ("a pet ", None)}
    releases.advance(stack.client, f"rel_{version}", from_stage=releases.FIRST, reason="test")

    def follows() -> bool:
        residents = stack.live.serving.replica.residents
        return residents is not None and residents.canary is not None and residents.canary.share == STAGES[2]

    stack.live.wait(follows, timeout_s=30)
    return releases.release(stack.client, f"rel_{version}")


def traffic(stack: FakeStack, over: Callable[[Release | None], bool]) -> Counter[int]:
    """People ask until it is over with the open release, or for a minute; answers by version."""
    answers: Counter[int] = Counter()
    deadline = time.monotonic() + LIMIT_S
    people = itertools.cycle(random.Random(0).sample(range(PEOPLE), PEOPLE))

    async def ask(client: httpx.AsyncClient) -> None:
        body = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 16}
        while time.monotonic() < deadline and not over(releases.current(stack.client)):
            person = {"user": f"person-{next(people)}"}
            answer = await client.post("/v1/chat/completions", json=body | person)
            assert answer.status_code == 200
            answers[int(answer.headers["x-policy-version"])] += 1
            await asyncio.sleep(0.05)

    async def everybody() -> None:
        async with httpx.AsyncClient(base_url=stack.live.url, timeout=30) as client:
            await asyncio.gather(*(ask(client) for _ in range(AT_ONCE)))

    asyncio.run(everybody())
    return answers


@pytest.mark.parametrize("poison", ["empty", "looping", "refusing"])
def test_a_poisoned_candidate_is_rolled_back(stack: FakeStack, poison: str) -> None:
    """Within a minute of traffic, and then nobody gets it any more."""
    release = opened(stack)
    stack.engine.words = {policy_name(release.version): POISON[poison]}
    with controlled(stack):
        answers = traffic(stack, lambda current: current is None)

    ended = releases.release(stack.client, release.id)
    assert ended.state == "rolled_back", answers
    assert ended.reason.startswith("guardrail ")
    assert answers[release.version] >= 1
    stack.live.wait(lambda: stack.live.serving.replica.residents.canary is None, timeout_s=30)  # type: ignore[union-attr]
    after = [stack.live.chat(user=f"person-{number}").headers["x-policy-version"] for number in range(50)]
    assert set(after) == {"0"}


def test_a_healthy_candidate_goes_on(stack: FakeStack) -> None:
    """The same traffic, the same people: after twenty answers and ten seconds it is at 50 %."""
    release = opened(stack)
    with controlled(stack):
        answers = traffic(stack, lambda current: current is None or current.stage == 3)

    now = releases.release(stack.client, release.id)
    assert (now.state, now.stage) == ("canary", 3), answers
    assert now.reason.startswith("guardrails are quiet after ")
