"""Simulated raters: they chat, compare and vote through the public HTTP API and know nothing else of the service.

Behind every vote stands the gold preference (`lab.gold`), which the service never sees. A rater chooses by Bradley and
Terry's law with a temperature and now and then tosses a coin, so two raters disagree as people do. Thumbs are the same
choice, against an answer of a set utility that is just worth a thumb.
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field

from core.errors import PlumblineError
from core.records import PreferenceValue
from lab.chats import REQUEST_TIMEOUT_S, Chats, voted_prompts
from lab.gold import choice_probability, noise_ceiling, utility
from lab.world import Prompt

_TRIES = 5


class RatersConfig(BaseModel):
    """`[demo.raters]` in demo.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=1)
    """People: `rater-000` and so on."""
    concurrency: int = Field(ge=1)
    """Votes under way at a time."""
    tau: float = Field(gt=0)
    """Bradley–Terry temperature: a difference in utility of one `tau` is preferred in 73 % of cases."""
    error: float = Field(ge=0, le=1)
    """Share of votes that a coin decides."""
    thumb_share: float = Field(ge=0, lt=1)
    """Share of votes that are thumbs after a chat; the others are blind comparisons."""
    thumb_utility: float
    """An answer of this gold utility gets as many thumbs up as down."""


@dataclass(kw_only=True, slots=True)
class Ballot:
    """What the raters did in one round."""

    comparisons: int = 0
    ties: int = 0
    thumbs_up: int = 0
    thumbs_down: int = 0
    utilities: list[tuple[float, float]] = field(default_factory=list)
    """Gold utilities of both sides of each comparison that was no tie."""

    @property
    def thumbs(self) -> int:
        return self.thumbs_up + self.thumbs_down

    def ceiling(self, config: RatersConfig) -> float | None:
        """Expected accuracy, on these votes, of an oracle that knows the gold utilities: no reward model can do better
        but by luck. None without a vote that prefers a side."""
        return noise_ceiling(self.utilities, tau=config.tau, error=config.error) if self.utilities else None


class Side(BaseModel):
    """One of two blind answers, as `POST /v1/comparisons` gives it; further fields do not concern a rater."""

    content: str
    finish_reason: str | None

    def utility(self, prompt: Prompt) -> float:
        return utility(prompt, self.content, finished=self.finish_reason == "stop")


class DrawnComparison(BaseModel):
    id: str
    sides: tuple[Side, Side]


def choose(a: Side, b: Side, utilities: tuple[float, float], config: RatersConfig, toss: float) -> PreferenceValue:
    """The vote of a rater whose uniform random number is `toss`: a tie exactly if both answers read the same."""
    if a.content == b.content:
        return "tie"
    return "a" if toss < choice_probability(*utilities, tau=config.tau, error=config.error) else "b"


def thumb(answer_utility: float, config: RatersConfig, toss: float) -> Literal[1, -1]:
    """The thumb of a rater whose uniform random number is `toss`."""
    likes = choice_probability(answer_utility, config.thumb_utility, tau=config.tau, error=config.error)
    return 1 if toss < likes else -1


class Raters:
    """People at work. One HTTP client for all of them: what differs is the name that they vote under."""

    def __init__(self, http: httpx.AsyncClient, chats: Chats, config: RatersConfig, *, rng: random.Random) -> None:
        self._http = http
        self._chats = chats
        self._config = config
        self._rng = rng
        self._prompts: Iterator[Prompt] = voted_prompts(rng)

    async def vote_until(self, stop: asyncio.Event, ballot: Ballot) -> None:
        """Vote on and on; the votes under way at `stop` are finished.

        Raises:
            PlumblineError: the service refused a vote; the others stop too.
        """

        async def booth() -> None:
            try:
                while not stop.is_set():
                    await self._vote(ballot)
            finally:
                stop.set()

        await asyncio.gather(*(booth() for _ in range(self._config.concurrency)))

    async def _vote(self, ballot: Ballot) -> None:
        rater = f"rater-{self._rng.randrange(self._config.count):03}"
        if self._rng.random() < self._config.thumb_share:
            await self.rate(next(self._prompts), rater, ballot)
        else:
            await self.compare(next(self._prompts), rater, ballot)

    async def compare(self, prompt: Prompt, rater: str, ballot: Ballot) -> None:
        """Ask for two blind answers and say which is better."""
        body = {
            "messages": [{"role": "user", "content": prompt.text}],
            "temperature": 1.0,
            "max_tokens": self._chats.max_tokens,
            "user": rater,
        }
        drawn = DrawnComparison.model_validate_json((await self._post("/v1/comparisons", body)).content)
        a, b = drawn.sides
        utilities = a.utility(prompt), b.utility(prompt)
        value = choose(a, b, utilities, self._config, self._rng.random())
        await self._give({"type": "comparison", "id": drawn.id}, kind="preference", value=value, rater=rater)
        ballot.comparisons += 1
        if value == "tie":
            ballot.ties += 1
        else:
            ballot.utilities.append(utilities)

    async def rate(self, prompt: Prompt, rater: str, ballot: Ballot) -> None:
        """Chat, then give the answer a thumb. A failed chat (counted by `Chats`) and an unrecorded one get none."""
        answer = await self._chats.ask(prompt, user=rater)
        if answer is None or not answer.recorded:
            return
        value = thumb(utility(prompt, answer.text, finished=answer.finished), self._config, self._rng.random())
        await self._give({"type": "completion", "id": answer.id}, kind="thumb", value=value, rater=rater)
        ballot.thumbs_up += value == 1
        ballot.thumbs_down += value == -1

    async def _give(self, target: dict[str, str], *, kind: str, value: PreferenceValue | int, rater: str) -> None:
        await self._post("/v1/feedback", {"target": target, "kind": kind, "value": value, "rater": {"id": rater}})

    async def _post(self, path: str, body: dict[str, object]) -> httpx.Response:
        """Repeats what the service says may be repeated; a vote that is sent twice counts once.

        Raises:
            PlumblineError: with the service's own message.
        """
        failure = ""
        for attempt in range(_TRIES):
            await asyncio.sleep(0.5 * attempt)
            try:
                response = await self._http.post(path, json=body)
            except httpx.TransportError as error:
                failure = f"failed: {type(error).__name__} {error}"
                continue
            if response.is_success:
                return response
            failure = f"answered {response.status_code}: {_message(response)}"
            if response.headers.get("x-should-retry") != "true":
                break
        raise PlumblineError(f"POST {path} {failure}")


def http_client(api_url: str, *, connections: int) -> httpx.AsyncClient:
    """For what OpenAI's API does not have: comparisons and feedback."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=api_url, timeout=REQUEST_TIMEOUT_S, limits=limits)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
