"""Which policy version answers a request. Pure: a function of the requested model and of what is resident now."""

import re
from dataclasses import dataclass
from typing import Literal

from core.errors import NotFound
from core.records import ALIAS, policy_name

How = Literal["live", "pinned", "comparison"]

_PINNED = re.compile(rf"{ALIAS}@v(0|[1-9][0-9]{{0,8}})")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidentSet:
    """The versions that requests may be routed to: `ResidentSet(generation=5, live=3, policies={0: "ab…", 3: "9f…"})`.

    Replaced as a whole at a swap, never edited: a request sees the old set or the new one.
    """

    generation: int
    live: int
    policies: dict[int, str]
    """Version to adapter sha256; always holds `live`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """The version that a request got, how, and with what probability."""

    version: int
    adapter_sha256: str
    how: How
    propensity: float

    @property
    def name(self) -> str:
        return policy_name(self.version)


def assign(model: str, residents: ResidentSet) -> Assignment:
    """`assistant` is the live version, `assistant@vN` that one if it is resident.

    One version takes all unpinned traffic today, so every propensity is 1.

    Raises:
        NotFound: any other name; a version that is not resident is never loaded for a request.
    """
    if model == ALIAS:
        return _assigned(residents, residents.live, "live")
    match = _PINNED.fullmatch(model)
    if match is None or int(match[1]) not in residents.policies:
        raise NotFound(
            f"The model {model!r} is not served; GET /v1/models lists what is.", param="model", code="model_not_found"
        )
    return _assigned(residents, int(match[1]), "pinned")


def _assigned(residents: ResidentSet, version: int, how: How) -> Assignment:
    return Assignment(version=version, adapter_sha256=residents.policies[version], how=how, propensity=1.0)
