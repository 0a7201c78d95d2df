"""Releases: the way of a candidate into traffic, from its first users to all of them or to none.

A candidate that passed its gate gets a release in the same step (`core.registry.publish`), and at most one is open:
while another is, the candidate waits for its own (`begin`). A release goes through the stages while nothing speaks
against it, and ends once. Who decides that and by which evidence is not here: this file only makes each step one
compare-and-set.
"""

from typing import Literal, cast

import redis

from core import keys, registry_scripts
from core.errors import Conflict, UsageError
from core.records import Record

STAGES = (0.0, 0.01, 0.10, 0.50)
"""Share of end users whom the candidate answers, stage by stage; all of them is promotion itself."""
SHADOW, FIRST = 0, 1
"""Where a release begins: at the stage that nobody sees (core/shadow.py) if there is one, else with its first users."""
ALPHA = 0.05
"""Bound on the probability that a candidate which is no better is promoted, however often one looks."""

Ending = Literal["promoted", "rolled_back", "kept", "stopped"]
"""By evidence for it; by evidence against it or a guardrail; undecided, so the incumbent stays; by a person, or because
another version went live."""


class Release(Record):
    """The release of one version, of which there is one ever.

    Example:
        Release(id="rel_7", version=7, against=5, state="canary", stage=2, share=0.1, opened=1790000300.0,
            staged=1790000900.0, alpha=0.05, reason="guardrails are quiet after 25 answers", actor="scheduler")
    """

    id: str
    version: int
    """The candidate."""
    against: int
    """The version that is live as long as this is open."""
    state: Literal["canary"] | Ending
    stage: int
    """Index into STAGES; where it ended, if it did."""
    share: float
    """Of end users whom the candidate answers by this release; once it ended 1 or 0."""
    opened: float
    """Redis's clock, as the other times."""
    staged: float
    """When it came to this stage."""
    ended: float | None = None
    alpha: float
    reason: str
    """Of its last step."""
    actor: str
    """Who made that: `run:3c59…`, `scheduler`, an operator."""


def first_stage(shadow: float) -> int:
    """Where releases begin that are opened now, with this `PLUMBLINE_SHADOW`."""
    return SHADOW if shadow > 0 else FIRST


def current(client: redis.Redis) -> Release | None:
    """The open release."""
    found = cast(str | None, client.hget(keys.REGISTRY, "release"))
    return None if found is None else release(client, found)


def release(client: redis.Redis, release_id: str) -> Release:
    """One release.

    Raises:
        UsageError: there is none of that id.
    """
    found = cast(str | None, client.hget(keys.RELEASES, release_id))
    if found is None:
        raise UsageError(f"There is no release {release_id!r}; `plumbline releases list` shows those that exist.")
    return Release.model_validate_json(found)


def releases(client: redis.Redis) -> list[Release]:
    """All of them, oldest first."""
    found = cast(dict[str, str], client.hgetall(keys.RELEASES)).values()
    return sorted((Release.model_validate_json(record) for record in found), key=lambda it: it.version)


def begin(
    client: redis.Redis, version: int, *, stage: int, reason: str, actor: str, against: int | None = None
) -> Release:
    """Opens the release of a candidate that waits for it.

    Args:
        stage: `SHADOW` or `FIRST`.
        against: the version that must be live; None: whichever is.

    Raises:
        UsageError: there is no such version, or it is no candidate any more: a version has one release ever.
        Conflict: another release is open, or another version is live.
    """
    arguments = [version, "" if against is None else against, stage, STAGES[stage], ALPHA, actor, reason]
    outcome, found = registry_scripts.run(client, "release_open", *arguments)
    if outcome == "unknown":
        raise UsageError(f"There is no policy version {version}; `plumbline policies list` shows those that exist.")
    if outcome == "over":
        raise UsageError(f"Version {version} is no candidate that waits: a version has one release, `promote` any.")
    if outcome == "busy":
        raise Conflict(f"the release of version {found} is still open")
    if outcome == "conflict":
        raise Conflict(f"version {found} is live, and version {version} was to be compared with version {against}")
    return release(client, f"rel_{version}")


def advance(client: redis.Redis, release_id: str, *, from_stage: int, reason: str, actor: str = "scheduler") -> None:
    """Takes the open release from one stage to the next.

    Raises:
        Conflict: it is not open any more, or not at that stage.
    """
    assert 0 <= from_stage < len(STAGES) - 1
    share = STAGES[from_stage + 1]
    outcome, stage = registry_scripts.run(client, "release_advance", release_id, from_stage, share, actor, reason)
    if outcome == "conflict":
        where = "not open" if stage < 0 else f"at stage {stage}"
        raise Conflict(f"release {release_id} is {where}, and was to leave stage {from_stage}")


def promote(client: redis.Redis, release_id: str, *, reason: str, actor: str) -> None:
    """Ends the open release with its candidate live and the incumbent as the previous version.

    Raises:
        Conflict: it is not open any more.
    """
    _end(client, release_id, "promoted", reason=reason, actor=actor)


def end(
    client: redis.Redis,
    release_id: str,
    *,
    state: Literal["rolled_back", "kept", "stopped"],
    reason: str,
    actor: str,
) -> None:
    """Ends the open release with the incumbent live. The candidate is then `rolled_back`, or else `retired`.

    Raises:
        Conflict: it is not open any more.
    """
    _end(client, release_id, state, reason=reason, actor=actor)


def _end(client: redis.Redis, release_id: str, state: Ending, *, reason: str, actor: str) -> None:
    outcome, _ = registry_scripts.run(client, "release_end", release_id, state, actor, reason)
    if outcome == "conflict":
        raise Conflict(f"release {release_id} is not open any more; it could not become {state}")
