"""Which policy version answers a request. Pure: a function of the requested model, of who asks, and of what is resident
now."""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from core.errors import NotFound
from core.records import ALIAS, policy_name

How = Literal["live", "canary", "pinned", "comparison"]

_PINNED = re.compile(rf"{ALIAS}@v(0|[1-9][0-9]{{0,8}})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """The open release, as a replica routes by it: `Canary(release="rel_7", version=7, share=0.1)`."""

    release: str
    version: int
    share: float
    """Of end users, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidentSet:
    """The versions that requests may be routed to: `ResidentSet(generation=5, live=3, policies={0: "ab…", 3: "9f…"})`.

    Replaced as a whole at a swap, never edited: a request sees the old set or the new one.
    """

    generation: int
    live: int
    policies: dict[int, str]
    """Version to adapter sha256; always holds `live`, and the canary's version if there is one."""
    canary: Canary | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """The version that a request got, how, and with what probability."""

    version: int
    adapter_sha256: str
    how: How
    propensity: float
    release: str | None = None
    """The open release, of which this request is one arm or the other; None of a pinned version."""

    @property
    def name(self) -> str:
        return policy_name(self.version)


def assign(model: str, residents: ResidentSet, unit: str) -> Assignment:
    """`assistant` is the live version, or by its share the canary; `assistant@vN` is that one if it is resident.

    Where the canary cannot be served here, everybody gets the live version, and the propensity says so: it is what
    happened on this replica, not what was planned.

    Args:
        unit: who asks, so that they are answered by the same arm as long as the stage lasts; or something that is
            drawn anew for each request.

    Raises:
        NotFound: any other name; a version that is not resident is never loaded for a request.
    """
    if model == ALIAS:
        return _of_traffic(residents, unit)
    match = _PINNED.fullmatch(model)
    if match is None or int(match[1]) not in residents.policies:
        raise model_not_found(model)
    version = int(match[1])
    return Assignment(version=version, adapter_sha256=residents.policies[version], how="pinned", propensity=1.0)


def model_not_found(model: str) -> NotFound:
    said = f"The model {model!r} is not served; GET /v1/models lists what is."
    return NotFound(said, param="model", code="model_not_found")


def place(release: str, unit: str) -> float:
    """Where somebody stands between 0 and 1 in one release: they meet the canary once its share is above that.

    Another release deals the places anew, so nobody always comes first. No secret goes in: who knew their place could
    at most choose to meet the canary sooner, which no evidence comes from.
    """
    digest = hashlib.sha256(f"{release}\n{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _of_traffic(residents: ResidentSet, unit: str) -> Assignment:
    canary = residents.canary
    if canary is None:
        sha256 = residents.policies[residents.live]
        return Assignment(version=residents.live, adapter_sha256=sha256, how="live", propensity=1.0)
    is_canary = place(canary.release, unit) < canary.share
    version = canary.version if is_canary else residents.live
    return Assignment(
        version=version,
        adapter_sha256=residents.policies[version],
        how="canary" if is_canary else "live",
        propensity=canary.share if is_canary else 1.0 - canary.share,
        release=canary.release,
    )
