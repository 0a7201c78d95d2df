"""Raters vote by the gold preference at the stated noise, through the public API only."""

import asyncio
import itertools
import math
import random
from collections.abc import Iterator

import pytest
from openai import AsyncOpenAI

from core.errors import PlumblineError
from lab.chats import Chats
from lab.gold import choice_probability, utility
from lab.raters import Ballot, Raters, RatersConfig, Side, choose, http_client, thumb
from lab.world import Prompt, prompt_pools
from tests.lab.fake_service import FakeService

CONFIG = RatersConfig(count=5, concurrency=4, tau=0.5, error=0.1, thumb_share=0.25, thumb_utility=1.0)
THANKS: Prompt = next(prompt for prompt in prompt_pools(False)["chat"].prompts if prompt.text == "Thank you!")
BETTER, WORSE = "You are welcome.", "You are welcome. It is a long story."


@pytest.fixture
def service() -> FakeService:
    """Its two answers to one prompt are the better and the worse text in turns."""
    texts = itertools.cycle([BETTER, WORSE])
    return FakeService(lambda prompt, version: next(texts))


@pytest.fixture
def url(service: FakeService) -> Iterator[str]:
    with service.serve() as url:
        yield url


class Hall:
    """Raters with their clients: `async with Hall(url) as raters`."""

    def __init__(self, url: str, config: RatersConfig = CONFIG) -> None:
        self.url, self.config = url, config

    async def __aenter__(self) -> Raters:
        self.http = http_client(self.url, connections=4)
        self.openai = AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)
        self.chats = Chats(client=self.openai, max_tokens=16)
        return Raters(self.http, self.chats, self.config, rng=random.Random(0))

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.openai.close()


def side(text: str) -> Side:
    return Side(content=text, finish_reason="stop")


def test_a_toss_below_the_probability_takes_a() -> None:
    """P(a) = error / 2 + (1 - error) sigmoid((ua - ub) / tau) = 0.05 + 0.9 * 0.731059 = 0.707953 for a gap of tau."""
    assert choose(side("x"), side("y"), (0.5, 0.0), CONFIG, toss=0.7079) == "a"
    assert choose(side("x"), side("y"), (0.5, 0.0), CONFIG, toss=0.7080) == "b"


def test_equal_texts_are_a_tie() -> None:
    """A rater who reads the same text twice prefers neither, whatever the toss."""
    assert choose(side("x"), side("x"), (0.5, 0.5), CONFIG, toss=0.0) == "tie"


def test_a_thumb_is_a_choice_against_the_threshold() -> None:
    """At the threshold half of the thumbs go up; one tau above it 0.707953 of them."""
    assert (thumb(1.0, CONFIG, toss=0.4999), thumb(1.0, CONFIG, toss=0.5)) == (1, -1)
    assert (thumb(1.5, CONFIG, toss=0.7079), thumb(1.5, CONFIG, toss=0.7080)) == (1, -1)


def test_an_unfinished_answer_is_worth_less() -> None:
    """A text that was cut off at the token limit has another utility than one that ended."""
    assert Side(content=BETTER, finish_reason="length").utility(THANKS) < side(BETTER).utility(THANKS)


def test_votes_follow_the_gold_preference_at_the_stated_rate(service: FakeService, url: str) -> None:
    """Over the API the better text wins as often as Bradley-Terry noise and error say, within four sigma."""
    expected = choice_probability(utility(THANKS, BETTER), utility(THANKS, WORSE), tau=CONFIG.tau, error=CONFIG.error)
    total, ballot = 300, Ballot()

    async def scenario() -> None:
        async with Hall(url) as raters:
            for _ in range(total):
                await raters.compare(THANKS, "rater-001", ballot)

    asyncio.run(scenario())

    better = sum(vote["value"] == "a" for vote in service.votes)  # the cycle puts the better text on side a
    assert abs(better - expected * total) < 4 * math.sqrt(total * expected * (1 - expected))
    assert (total, 0) == (ballot.comparisons, ballot.ties)
    assert ballot.ceiling(CONFIG) == pytest.approx(expected)


def test_a_vote_names_its_comparison_and_its_rater(service: FakeService, url: str) -> None:
    """The bodies are those of the public API: who asks is who votes, and nothing else is sent."""

    async def scenario() -> None:
        async with Hall(url) as raters:
            await raters.compare(THANKS, "rater-002", Ballot())
            await raters.rate(THANKS, "rater-003", Ballot())

    asyncio.run(scenario())

    preference, given_thumb = service.votes
    assert service.drawn["cmp_0"]["user"] == "rater-002"
    assert preference["target"] == {"type": "comparison", "id": "cmp_0"}
    assert (preference["kind"], preference["rater"]) == ("preference", {"id": "rater-002"})
    assert given_thumb["target"] == {"type": "completion", "id": "chatcmpl-1"}
    assert (given_thumb["kind"], given_thumb["rater"]) == ("thumb", {"id": "rater-003"})
    assert given_thumb["value"] in (1, -1)


def test_raters_vote_until_they_are_stopped(service: FakeService, url: str) -> None:
    """Votes under way at the stop are finished: the service has exactly those on the ballot."""
    ballot = Ballot()

    async def scenario() -> None:
        async with Hall(url) as raters:
            stop = asyncio.Event()
            voting = asyncio.create_task(raters.vote_until(stop, ballot))
            while ballot.comparisons < 40:
                await asyncio.sleep(0.01)
            stop.set()
            await voting

    asyncio.run(scenario())

    kinds = [vote["kind"] for vote in service.votes]
    assert ballot.comparisons == kinds.count("preference") == len(service.drawn)
    assert ballot.thumbs == kinds.count("thumb") == len(service.chats)
    assert ballot.thumbs > 0
    assert {vote["rater"]["id"] for vote in service.votes} <= {f"rater-00{number}" for number in range(5)}


def test_a_vote_waits_for_storage_to_come_back(service: FakeService, url: str) -> None:
    """503 with x-should-retry is repeated until it is acknowledged, and counted once."""
    service.unavailable, ballot = 2, Ballot()

    async def scenario() -> None:
        async with Hall(url) as raters:
            await raters.compare(THANKS, "rater-001", ballot)

    asyncio.run(scenario())

    assert 1 == len(service.votes) == ballot.comparisons


def test_a_refused_vote_ends_the_voting(service: FakeService, url: str) -> None:
    """A vote that the service refuses for good is an error with the service's words, not a loop."""

    async def scenario() -> None:
        async with Hall(url, CONFIG.model_copy(update={"thumb_share": 0.0})) as raters:
            await raters.vote_until(asyncio.Event(), Ballot())

    service.refusing = True
    with pytest.raises(PlumblineError, match=r"POST /v1/feedback answered 404: no such target"):
        asyncio.run(scenario())


def test_without_a_vote_there_is_no_ceiling() -> None:
    """A ceiling is of votes that prefer a side; none were cast."""
    assert Ballot().ceiling(CONFIG) is None
