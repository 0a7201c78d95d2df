"""Chat traffic counts what it should: whole streams are served, everything else has failed."""

import asyncio
import random
import time
from collections.abc import Iterator

import pytest
from openai import AsyncOpenAI

from lab.chats import Answer, BrokenStream, Chats, ChatsConfig, background, version_of, voted_prompts
from lab.world import sample_prompts
from tests.lab.fake_service import Break, FakeService

PROMPT = sample_prompts(random.Random(0), 1, held_out=False)[0]


@pytest.fixture
def service() -> FakeService:
    return FakeService(lambda prompt, version: f"Answer of version {version}.")


@pytest.fixture
def url(service: FakeService) -> Iterator[str]:
    with service.serve() as url:
        yield url


async def ask(url: str) -> tuple[Chats, Answer | None]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        chats = Chats(client=client, max_tokens=16)
        return chats, await chats.ask(PROMPT, user="visitor-001")


def test_a_whole_stream_is_served(service: FakeService, url: str) -> None:
    """A stream with finish reason and usage counts as served, and its text and version are what was sent."""
    service.live, begun = 3, time.time()

    chats, answer = asyncio.run(ask(url))

    assert answer == Answer(id="chatcmpl-1", version=3, text="Answer of version 3.", finished=True)
    assert (chats.served, chats.failed) == (1, 0)
    assert list(chats.first_tokens) == [3]
    assert begun <= chats.first_tokens[3] <= time.time()


def test_a_visitor_asks_the_live_policy(service: FakeService, url: str) -> None:
    """A chat goes to the alias, streams, says who asks, and does not refuse to be stored."""
    asyncio.run(ask(url))

    (body,) = service.chats
    assert body["model"] == "assistant"
    assert body["stream"] is True
    assert body["user"] == "visitor-001"
    assert "store" not in body


@pytest.mark.parametrize("broken", ["cut", "no_finish", "error_event", "refuse", "two_versions"])
def test_a_broken_stream_has_failed(service: FakeService, url: str, broken: Break) -> None:
    """A stream that is cut, ends without a finish reason, carries an error, or names two versions counts as failed."""
    service.broken = broken

    chats, answer = asyncio.run(ask(url))

    assert answer is None
    assert (chats.served, chats.failed) == (0, 1)
    assert chats.last_failure


def test_a_failure_is_not_retried(service: FakeService, url: str) -> None:
    """A failed chat was one request: no retry hides it."""
    service.broken = "refuse"

    asyncio.run(ask(url))

    assert len(service.chats) == 1


def test_background_chats_go_on_until_they_are_stopped(service: FakeService, url: str) -> None:
    """Every visitor chats again and again; chats under way at the stop are finished and counted."""

    async def scenario() -> Chats:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            chats, stop = Chats(client=client, max_tokens=16), asyncio.Event()
            config = ChatsConfig(concurrency=3, think_s=0.0, max_tokens=16)
            chatting = asyncio.create_task(background(chats, config, rng=random.Random(0), stop=stop))
            while chats.served < 12:
                await asyncio.sleep(0.01)
            stop.set()
            await chatting
            return chats

    chats = asyncio.run(scenario())

    assert chats.failed == 0
    assert len(service.chats) == chats.served
    assert {"visitor-000", "visitor-001", "visitor-002"} == {body["user"] for body in service.chats}


def test_nobody_asks_about_held_out_slots() -> None:
    """Prompts of traffic and votes come from voted slots, whatever the number drawn."""
    prompts = voted_prompts(random.Random(1))

    assert not any(next(prompts).held_out for _ in range(1200))


@pytest.mark.parametrize("model", ["assistant", "assistant@v", "assistant@vx", "other@v3"])
def test_a_response_must_name_an_exact_version(model: str) -> None:
    """`assistant@v3` is version 3; a name without a number is a broken response."""
    assert version_of("assistant@v3") == 3
    with pytest.raises(BrokenStream):
        version_of(model)
