"""How often guardrails stop a healthy release, and how soon a poisoned one: simulated people, a look after each answer.

`python -m benchmarks.guardrails` prints the table of docs/releases.md. People differ as they do in life: a few ask for
most of the answers, some always want long ones, some ask for what is refused. Nothing is served here: the completions
are drawn, the rules are those of serving/guardrails.py, the counting is that of core/exposures.py.
"""

import argparse
from bisect import bisect
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from core.exposures import COUNTED_EACH, SECONDS, TOKENS, Exposure
from serving.guardrails import Side, alarm

Poison = Literal["none", "empty", "looping", "refusing", "failing", "four times as long", "four times as slow"]
PEOPLE = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """When a simulated release was stopped, in completions of the candidate, and why."""

    after: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Person:
    refused: float
    """Share of this person's questions that are refused."""
    tokens: float
    """Median length of the answers."""


def release(rng: np.random.Generator, poison: Poison, *, share: float, completions: int) -> Stop | None:
    """One release at one stage, until the candidate has given so many answers or was stopped."""
    people = [
        _Person(refused=0.8 if rng.random() < 0.02 else 0.005, tokens=float(rng.lognormal(4.0, 1.0)))
        for _ in range(PEOPLE)
    ]
    activity = rng.lognormal(0.0, 1.5, PEOPLE)
    canary = rng.random(PEOPLE) < share
    arms = {True: Exposure(), False: Exposure()}
    answered = np.zeros(PEOPLE, dtype=int)
    batch = iter(rng.choice(PEOPLE, size=int(3 * completions / share), p=activity / activity.sum()))
    for place in batch:
        is_canary = bool(canary[place])
        answered[place] += 1
        done = _count(rng, arms[is_canary], people[place], int(answered[place]), poison if is_canary else "none")
        arms[is_canary] = done
        if not is_canary:
            continue
        reason = alarm(Side(exposure=arms[True]), Side(exposure=arms[False]), share=share)
        if reason is not None:
            return Stop(after=done.staged, reason=reason)
        if done.staged >= completions:
            break
    return None


def _count(rng: np.random.Generator, arm: Exposure, person: _Person, number: int, poison: Poison) -> Exposure:
    """The arm with one more answer, this person's so many-th."""
    tokens = int(rng.lognormal(np.log(person.tokens), 0.5)) + 1
    tokens *= 4 if poison == "four times as long" else 1
    seconds = (0.1 + tokens / 100) * float(rng.lognormal(0.0, 0.3)) * (4 if poison == "four times as slow" else 1)
    counted = number <= COUNTED_EACH
    found = replace(
        arm,
        staged=arm.staged + 1,
        people=arm.people + (number == 1),
        completions=arm.completions + counted,
        failed=arm.failed + (counted and _happens(rng, 0.003, poison == "failing")),
        empty=arm.empty + (counted and _happens(rng, 0.002, poison == "empty")),
        loops=arm.loops + (counted and _happens(rng, 0.005, poison == "looping")),
        refuses=arm.refuses + (counted and _happens(rng, person.refused, poison == "refusing")),
    )
    if number > 1:
        return found
    return replace(
        found,
        firsts=arm.firsts + 1,
        cut_off=arm.cut_off + (tokens >= 512),
        tokens=_one_more(arm.tokens, bisect(TOKENS, tokens - 1)),
        seconds=_one_more(arm.seconds, bisect(SECONDS, seconds)),
    )


def _happens(rng: np.random.Generator, rate: float, always: bool) -> bool:
    return always or bool(rng.random() < rate)


def _one_more(places: tuple[int, ...], place: int) -> tuple[int, ...]:
    return (*places[:place], places[place] + 1, *places[place + 1 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--healthy", type=int, default=500, help="healthy releases at each share")
    parser.add_argument("--poisoned", type=int, default=50, help="releases of each poison")
    parser.add_argument("--completions", type=int, default=300, help="answers of the candidate, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print("| candidate | share | stopped | answers of the candidate until then: median, 95 % |\n|---|---|---|---|")
    rows: list[tuple[Poison, float, int]] = [("none", share, options.healthy) for share in (0.01, 0.1, 0.5)]
    poisons: tuple[Poison, ...] = (
        "empty",
        "looping",
        "refusing",
        "failing",
        "four times as long",
        "four times as slow",
    )
    rows += [(poison, 0.1, options.poisoned) for poison in poisons]
    for poison, share, count in rows:
        ended = [release(rng, poison, share=share, completions=options.completions) for _ in range(count)]
        stops = [stop for stop in ended if stop is not None]
        after = [stop.after for stop in stops] or [0]
        median, most = np.median(after), np.quantile(after, 0.95)
        print(f"| {poison} | {share:.0%} | {len(stops)} of {count} | {median:.0f}, {most:.0f} |", flush=True)


if __name__ == "__main__":
    main()
