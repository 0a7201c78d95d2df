"""Unseen answers as the judge leaves them."""

import redis

from core import keys, shadow
from core.shadow import Compared

_REWARDS = {"win": (1.0, 0.0), "tie": (0.5, 0.5), "loss": (0.0, 1.0)}


def compared(client: redis.Redis, release_id: str, *, win: int = 0, tie: int = 0, loss: int = 0) -> None:
    """So many more of each outcome; 30 tokens of the candidate and 20 of the incumbent each."""
    outcomes = ["win"] * win + ["tie"] * tie + ["loss"] * loss
    ids = [f"chatcmpl-{outcome}-{client.incr('test:compared')}" for outcome in outcomes]
    client.sadd(keys.shadow_waiting(release_id), *ids)
    said = [
        Compared(completion=each, rewards=_REWARDS[outcome], tokens=(30, 20))
        for each, outcome in zip(ids, outcomes, strict=True)
    ]
    shadow.settle(client, release_id, said, judge="reward")
