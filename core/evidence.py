"""What is known of a release so far, in Redis: written by the scheduler that holds the lease, read by all who show it.

The evidence is a fold of the feedback log, and `position` says how far. Everything is written in one compare-and-set on
that position, so whoever goes on after a crash, in the middle of anything, counts each entry once.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, cast

import redis

from core import keys
from core.records import Record
from core.redis import script

Outcome = Literal["win", "tie", "loss"]
"""Of the candidate."""
Finding = Literal["better", "worse", "undecided"]
KEPT_S = 30 * 24 * 3600
"""What each person gave, since the last vote; `forget` ends it sooner."""
_LUA = Path(__file__).parent / "lua"


class Evidence(Record):
    """What people said of one release, as far as the log was read.

    Example:
        Evidence(release="rel_7", position="1790000003200-0", wins=61, ties=12, losses=40, aside=1, finding=None,
            found_at="", log10_e=0.71, log10_e_against=-1.3, p_value=0.19, low=0.44, high=0.72,
            candidate_thumbs=31, candidate_down=4, incumbent_thumbs=290, incumbent_down=33)
    """

    release: str
    position: str
    """Of the last entry of the log that was counted."""
    wins: int = 0
    """First votes of people on release comparisons, of the candidate; with `ties` and `losses` one each."""
    ties: int = 0
    losses: int = 0
    aside: int = 0
    """People whose votes do not count, because they are in quarantine or were erased."""
    finding: Finding | None = None
    """What the votes decide. It stays, whatever votes come later, unless a vote is taken out."""
    found_at: str = ""
    """Position of the entry that decided."""
    log10_e: float = 0.0
    """Evidence that the candidate is better; promotion needs −log10 alpha."""
    log10_e_against: float = 0.0
    """That it is worse."""
    p_value: float = 1.0
    low: float = 0.0
    """Of the win rate, as `high`: 95 % at all times together."""
    high: float = 1.0
    candidate_thumbs: int = 0
    """People whose first thumb on an answer of the candidate came since the release opened."""
    candidate_down: int = 0
    """Of these, thumbs down."""
    incumbent_thumbs: int = 0
    incumbent_down: int = 0
    trail: tuple[tuple[int, int, int], ...] = ()
    """Wins, ties and losses as they were on the way, each time that there were a twentieth more people: for a plot."""

    @property
    def raters(self) -> int:
        return self.wins + self.ties + self.losses


class Voter(Record):
    """What one person gave to a release, by their hash: `Voter(outcome="win", incumbent_thumb=-1)`."""

    outcome: Outcome | None = None
    candidate_thumb: Literal[1, -1] | None = None
    incumbent_thumb: Literal[1, -1] | None = None
    aside: bool = False
    """None of it counts now."""


def load(client: redis.Redis, release_id: str) -> Evidence | None:
    """None before anybody looked."""
    found = cast(str | None, client.hget(keys.release_evidence(release_id), "record"))
    return None if found is None else Evidence.model_validate_json(found)


def voters(client: redis.Redis, release_id: str, hashed: Iterable[str]) -> dict[str, Voter]:
    """Those of these people who gave something already."""
    asked = list(hashed)
    found = cast(list[str | None], client.hmget(keys.release_voters(release_id), asked)) if asked else []
    return {
        rater: Voter.model_validate_json(record)
        for rater, record in zip(asked, found, strict=True)
        if record is not None
    }


def claim(client: redis.Redis, owner: str, *, lease_s: float) -> bool:
    """Whether `owner` is the one who advances releases, for so long from now on Redis's clock."""
    return bool(script(client, _LUA / "evidence_claim.lua")(keys=[keys.RELEASE_LEASE], args=[owner, lease_s]))


def save(
    client: redis.Redis, evidence: Evidence, changed: Mapping[str, Voter], *, before: str | None, owner: str
) -> bool:
    """Writes what came of the entries behind `before` (None: there was nothing yet).

    Returns:
        False, and nothing is written, if another holds the lease or wrote meanwhile: load again.
    """
    names = [keys.RELEASE_LEASE, keys.release_evidence(evidence.release), keys.release_voters(evidence.release)]
    given = [part for rater, voter in changed.items() for part in (rater, voter.to_json())]
    arguments = [owner, before or "", evidence.position, evidence.to_json(), KEPT_S, *given]
    return bool(script(client, _LUA / "evidence_save.lua")(keys=names, args=arguments))


def forget(client: redis.Redis, release_id: str) -> None:
    """What each person gave to a release that is over: the counts stay, and nobody counts anew."""
    client.unlink(keys.release_voters(release_id))
