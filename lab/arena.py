"""The final evaluation: every resident policy version answers the same prompts, and the gold preference compares them.

Prompts come from held-out slots only, which no rater and no visitor ever asked about, and each chat says
`store: false`, so they stand in no fold. Answers are sampled at temperature 1. The win rate of a version is against
one sample of version 0 for the same prompt, ties counting half; a second, independent sample of version 0 is the
control row and must come out near one half.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from openai import AsyncOpenAI
from pydantic import BaseModel, ConfigDict, Field

from core.errors import PlumblineError
from core.records import policy_name
from lab.chats import version_of
from lab.gold import is_good, utility
from lab.world import Prompt

_Z_95 = 1.959964


class ArenaConfig(BaseModel):
    """`[demo.arena]` in demo.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int = Field(ge=3)
    """Distinct held-out prompts that each version answers once."""
    concurrency: int = Field(ge=1)
    """Chats at a time."""


# -- numbers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def win_scores(newer: Sequence[float], older: Sequence[float]) -> list[float]:
    """Per prompt, from the utilities of both answers: 1 if the newer one is better, 0 if worse, half if equal."""
    return [1.0 if a > b else 0.0 if a < b else 0.5 for a, b in zip(newer, older, strict=True)]


def estimate(scores: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """Mean of per-prompt scores with a normal 95 % interval.

    Prompts of one cluster (the same fact asked in many wordings) are no independent witnesses, so the variance is
    that of the cluster sums: `Σ_c (Σ_{i in c} (s_i - mean))² / n²` (Liang and Zeger 1986, for a mean).

    Raises ValueError without scores.
    """
    if not scores:
        raise ValueError("an estimate needs at least one score")
    mean = sum(scores) / len(scores)
    residuals: defaultdict[Hashable, float] = defaultdict(float)
    for score, cluster in zip(scores, clusters, strict=True):
        residuals[cluster] += score - mean
    margin = _Z_95 * math.sqrt(sum(residual**2 for residual in residuals.values())) / len(scores)
    return Estimate(mean=mean, low=mean - margin, high=mean + margin)


# -- answers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ArenaAnswer:
    """One answer of a pinned version, judged."""

    text: str
    tokens: int
    utility: float
    good: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    """What every version said: `answers[version][i]` belongs to `prompts[i]`."""

    prompts: list[Prompt]
    answers: dict[int, list[ArenaAnswer]]
    control: list[ArenaAnswer]
    """A second sample of version 0."""

    def win_rate(self, newer: int, older: int = 0) -> Estimate:
        """Gold win rate of one version over another, paired by prompt."""
        return self._estimate(win_scores(_utilities(self.answers[newer]), _utilities(self.answers[older])))

    def control_win_rate(self) -> Estimate:
        """Version 0 against itself."""
        return self._estimate(win_scores(_utilities(self.control), _utilities(self.answers[0])))

    def gain(self, newer: int, older: int) -> Estimate:
        """Difference of two versions' win rates over version 0, paired by prompt."""
        zero = _utilities(self.answers[0])
        pairs = zip(
            win_scores(_utilities(self.answers[newer]), zero),
            win_scores(_utilities(self.answers[older]), zero),
            strict=True,
        )
        return self._estimate([a - b for a, b in pairs])

    def _estimate(self, scores: Sequence[float]) -> Estimate:
        return estimate(scores, [prompt.slot for prompt in self.prompts])


def good_share(answers: Sequence[ArenaAnswer]) -> float:
    return sum(answer.good for answer in answers) / len(answers)


def mean_tokens(answers: Sequence[ArenaAnswer]) -> float:
    return sum(answer.tokens for answer in answers) / len(answers)


def _utilities(answers: Sequence[ArenaAnswer]) -> list[float]:
    return [answer.utility for answer in answers]


# -- collecting them ---------------------------------------------------------------------------------------------------


async def resident_versions(client: AsyncOpenAI) -> list[int]:
    """The versions that can be pinned now, oldest first: `GET /v1/models`."""
    return sorted([version_of(model.id) async for model in client.models.list() if "@v" in model.id])


async def hold(
    client: AsyncOpenAI,
    prompts: list[Prompt],
    versions: list[int],
    *,
    config: ArenaConfig,
    max_tokens: int,
    progress: Callable[[int, int], None],
) -> Arena:
    """Ask every version every prompt, version 0 twice; `progress(done, total)` is called after each answer.

    Raises:
        PlumblineError: another version answered than the one that was asked.
        openai.OpenAIError: a chat failed even after the client's own retries.
    """
    assert versions[0] == 0, "version 0 is always resident"
    entrants = [*versions, 0]
    total, done = len(entrants) * len(prompts), 0
    slots = asyncio.Semaphore(config.concurrency)

    async def one(prompt: Prompt, version: int) -> ArenaAnswer:
        nonlocal done
        async with slots:
            answer = await _answer(client, prompt, version, max_tokens=max_tokens)
        done += 1
        progress(done, total)
        return answer

    # Versions side by side on each prompt: whatever drifts on the machine meanwhile, it drifts for all of them.
    rows = await asyncio.gather(*(one(prompt, version) for prompt in prompts for version in entrants))
    columns = [list(rows[i :: len(entrants)]) for i in range(len(entrants))]
    return Arena(prompts=prompts, answers=dict(zip(versions, columns[:-1], strict=True)), control=columns[-1])


async def _answer(client: AsyncOpenAI, prompt: Prompt, version: int, *, max_tokens: int) -> ArenaAnswer:
    completion = await client.chat.completions.create(
        model=policy_name(version),
        messages=[{"role": "user", "content": prompt.text}],
        max_tokens=max_tokens,
        temperature=1.0,
        store=False,
    )
    if completion.model != policy_name(version):
        raise PlumblineError(f"{policy_name(version)} was asked, {completion.model} answered")
    text, finished = completion.choices[0].message.content or "", completion.choices[0].finish_reason == "stop"
    return ArenaAnswer(
        text=text,
        tokens=completion.usage.completion_tokens if completion.usage else 0,
        utility=utility(prompt, text, finished=finished),
        good=is_good(prompt, text, finished=finished),
    )
