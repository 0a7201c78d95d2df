"""Which policy versions meet in a comparison that leaves that to the server.

With `"choice": "active"` the pair that is to teach the most: the run has worked out how little the votes say of each
(core/records.py `VersionDoubt`); here one of the resident ones is drawn in proportion to that, above a floor. No model
is asked. Otherwise, while a release is open, now and then its candidate and the incumbent: only votes on these decide
it, for whom the most is learned from would not be a fair sample.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations

import redis.asyncio
from pydantic import ValidationError
from redis.exceptions import RedisError

from core import choice, keys
from core.records import VersionDoubt
from serving.assignment import Canary

_TIMEOUT_S = 0.5

log = logging.getLogger("plumbline.choice")


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnPair:
    """`DrawnPair(versions=(0, 3), propensity=0.31)`; one version twice where there is no other."""

    versions: tuple[int, int]
    propensity: float
    """Probability with which this pair was drawn from those that are resident."""


def draw_release(canary: Canary | None, sampling: float, rng: random.Random | None = None) -> tuple[bool, float]:
    """Whether a comparison is one of the open release, and the probability with which that was so: `sampling` if it is,
    the rest if it is not, 1 that it is not where no release is open, or none that anybody is to see yet."""
    if canary is None or canary.share == 0:
        return False, 1.0
    is_drawn = (rng or secrets.SystemRandom()).random() < sampling
    return is_drawn, sampling if is_drawn else 1.0 - sampling


def pair_probabilities(versions: Collection[int], doubt: VersionDoubt | None) -> dict[tuple[int, int], float]:
    """Of each pair of different versions; the variance of their difference decides, or nothing where it is unknown."""
    pairs = list(combinations(sorted(versions), 2))
    scores = [1.0 if doubt is None else max(doubt.of(*pair), 0.0) for pair in pairs]
    return dict(zip(pairs, choice.probabilities(scores), strict=True))


def draw_pair(versions: Collection[int], doubt: VersionDoubt | None, rng: random.Random | None = None) -> DrawnPair:
    """One of the pairs, by these probabilities. `versions` must not be empty."""
    found = pair_probabilities(versions, doubt)
    if not found:
        (only,) = versions
        return DrawnPair(versions=(only, only), propensity=1.0)
    (pair,) = (rng or secrets.SystemRandom()).choices(list(found), list(found.values()))
    return DrawnPair(versions=pair, propensity=found[pair])


async def version_doubt(client: redis.asyncio.Redis) -> VersionDoubt | None:
    """What the last run left; None if there was none, or if it cannot be read now: then all pairs are alike."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            found = await client.hget(keys.CHOICES, "versions")
        return None if found is None else VersionDoubt.model_validate_json(found)
    except (RedisError, TimeoutError, OSError, ValidationError) as error:
        log.warning("pairs of versions are drawn alike: %s", error)
        return None
