"""The final evaluation: its numbers by hand, and how it asks for answers."""

import asyncio
import math
import random
from collections.abc import Iterator

import pytest
from openai import AsyncOpenAI

from core.errors import PlumblineError
from lab.arena import (
    Arena,
    ArenaAnswer,
    ArenaConfig,
    estimate,
    good_share,
    hold,
    mean_tokens,
    resident_versions,
    win_scores,
)
from lab.world import Prompt, sample_prompts
from tests.lab.fake_service import FakeService

PROMPTS = sample_prompts(random.Random(0), 6, held_out=True)
GOOD, BAD = "I do not know that.", "Gibberish of nobody"


def answers(*utilities: float) -> list[ArenaAnswer]:
    return [ArenaAnswer(text="", tokens=10, utility=utility, good=utility > 1) for utility in utilities]


def slots(*names: str) -> list[Prompt]:
    return [
        Prompt(text=f"{i}", kind="fact", slot=name, held_out=True, entity="", answer="") for i, name in enumerate(names)
    ]


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_a_tie_is_half_a_win() -> None:
    """Per prompt: 1 for the better answer, 0 for the worse, one half for equal utility."""
    assert win_scores([2.0, 1.0, 0.0], [1.0, 1.0, 1.0]) == [1.0, 0.5, 0.0]


def test_an_estimate_of_independent_prompts() -> None:
    """Scores 1, 1, 0.5, 0: mean 0.625, sum of squares 0.6875, so the margin is 1.96 * sqrt(0.6875) / 4 = 0.406279."""
    found = estimate([1.0, 1.0, 0.5, 0.0], ["a", "b", "c", "d"])

    assert found.mean == 0.625
    assert (found.low, found.high) == pytest.approx((0.218721, 1.031279), abs=1e-6)


def test_prompts_about_one_thing_are_one_witness() -> None:
    """Two clusters (1, 1) and (0, 0): sums of residuals are +1 and -1, so the margin is 1.96 * sqrt(2) / 4 = 0.692951;
    as four independent prompts it would be 1.96 * 1 / 4."""
    found = estimate([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])

    assert found.mean == 0.5
    assert found.high - found.mean == pytest.approx(1.959964 * math.sqrt(2) / 4)


def test_an_estimate_needs_scores() -> None:
    """No score, no mean."""
    with pytest.raises(ValueError, match="at least one"):
        estimate([], [])


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over 2000 draws of 50 clusters of four equal prompts, about 95 % of the intervals hold the true mean 0.6."""
    rng, held, draws = random.Random(3), 0, 2000
    clusters = [i // 4 for i in range(200)]
    for _ in range(draws):
        scores = [float(rng.random() < 0.6) for _ in range(50)]
        found = estimate([scores[cluster] for cluster in clusters], clusters)
        held += found.low <= 0.6 <= found.high

    assert 0.93 <= held / draws <= 0.97


def test_versions_are_paired_by_prompt() -> None:
    """Version 1 beats 0 on two of four prompts and ties on one: 2.5 of 4. Version 2 beats it on three: its gain over
    version 1 is the mean of the paired differences (0, 0.5, 1, -1) = 0.125, and head to head it wins 2.5 of 4."""
    held = Arena(
        prompts=slots("a", "b", "c", "d"),
        answers={0: answers(0, 0, 0, 0), 1: answers(1, 0, -1, 2), 2: answers(1, 1, 1, -2)},
        control=answers(0, 1, -1, 0),
    )

    assert held.win_rate(1).mean == 0.625
    assert held.win_rate(2).mean == 0.75
    assert held.win_rate(2, 1).mean == 0.625
    assert held.gain(2, 1).mean == 0.125
    assert held.control_win_rate().mean == 0.5


def test_shares_and_lengths_are_means_over_prompts() -> None:
    """One good answer of four; ten tokens each."""
    given = answers(0, 1, 1, 2)

    assert (good_share(given), mean_tokens(given)) == (0.25, 10.0)


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def service() -> FakeService:
    """Version 1 hedges, version 0 is not understood."""
    return FakeService(lambda prompt, version: GOOD if version else BAD)


@pytest.fixture
def url(service: FakeService) -> Iterator[str]:
    with service.serve() as url:
        yield url


def hold_arena(url: str) -> tuple[Arena, list[tuple[int, int]]]:
    calls: list[tuple[int, int]] = []

    async def scenario() -> Arena:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            return await hold(
                client,
                PROMPTS,
                await resident_versions(client),
                config=ArenaConfig(prompts=len(PROMPTS), concurrency=4),
                max_tokens=16,
                progress=lambda done, total: calls.append((done, total)),
            )

    return asyncio.run(scenario()), calls


def test_every_version_answers_every_prompt(service: FakeService, url: str) -> None:
    """Each resident version answers once and version 0 twice; answers stay with their prompt and version."""
    service.resident = [0, 1]

    held, calls = hold_arena(url)

    assert {version: {answer.text for answer in given} for version, given in held.answers.items()} == {
        0: {BAD},
        1: {GOOD},
    }
    assert {answer.text for answer in held.control} == {BAD}
    asked = sorted((body["messages"][0]["content"], body["model"]) for body in service.chats)
    names = ["assistant@v0", "assistant@v0", "assistant@v1"]
    assert asked == sorted((prompt.text, name) for prompt in PROMPTS for name in names)
    assert calls == [(done, 18) for done in range(1, 19)]
    assert held.win_rate(1).mean == 1.0
    assert held.control_win_rate().mean == 0.5


def test_the_evaluation_leaves_nothing_to_train_on(service: FakeService, url: str) -> None:
    """Every chat says `store: false` and samples at temperature 1."""
    hold_arena(url)

    assert {(body["store"], body["temperature"]) for body in service.chats} == {(False, 1.0)}


def test_another_version_than_the_pinned_one_is_an_error(service: FakeService, url: str) -> None:
    """An answer of version 7 to a question to version 0 ends the evaluation."""
    service.impostor = 7

    with pytest.raises(PlumblineError, match="assistant@v0 was asked, assistant@v7 answered"):
        hold_arena(url)
