"""Cuts a snapshot: everything in the log so far, judged by the policy that is live now, frozen to disk.

Completions are read once, a chunk at a time: where a vote is judged its rows are made too (feedback/drafts.py), and
written when it is known which votes stay.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import pyarrow as pa  # type: ignore[import-untyped]
import redis

from core import registry
from core.errors import UsageError
from core.records import PolicyVersion, now
from feedback import events, examples, snapshot, store
from feedback.archive import Archive, RecordTable
from feedback.drafts import Drafts
from feedback.eligibility import Circumstances, Freshness
from feedback.events import LoggedRater, LoggedVote
from feedback.influence import Caps
from feedback.processes import uncollected, usable
from feedback.snapshot import Snapshot, Writer

_BEFORE_ALL = "0-0"
_MANY = 20_000
"""Events of a log that are worth several processes, which take a moment to start."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """What a deployment believes of its raters; by default all of all."""

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Of a rater's rows."""
    unknown: float = 1.0
    """Of those of raters who are not named, and of nobody in particular."""
    fastest_s: float = 0.0
    """See `Circumstances.fastest_s`."""
    caps: Caps = dataclasses.field(default_factory=Caps)


@uncollected()
def cut_snapshot(
    client: redis.Redis,
    artifacts: Path,
    *,
    salt: bytes,
    base_sha256: str,
    tokenizer_sha256: str,
    max_staleness: int = 1,
    trust: Trust | None = None,
    until: str | None = None,
    processes: int | None = None,
) -> Snapshot:
    """Freezes all votes to date under `artifacts`/snapshots/{id}/; doing it twice gives the same one.

    Policy rows are those of the live version and its `max_staleness` nearest ancestors that the live policy has not
    been trained on. A rejected candidate consumes nothing: only what a *live* policy learned from counts as used.

    Args:
        until: the last event of the log of which votes are taken. What became of these later still counts, so that
            nobody trains on a vote that was taken back.
        processes: that share the work; None is one of them for each core if the log is long, else this one alone.

    Raises:
        UsageError: there is no policy yet, or the live policy's own snapshot is gone.
    """
    directory, archive = artifacts / "snapshots", Archive(artifacts)
    trust = trust or Trust()
    live, freshness = _standing(client, directory, max_staleness)
    votes, raters = store.log(client, archive)
    if until is not None:
        votes = events.up_to(votes, until)
    by = _circumstances(trust, salt, freshness, raters)
    last_event = until or _newest(votes, raters)
    prompts = store.prompts(client)
    completions = partial(store.completions, client, archive=archive)
    comparisons = partial(store.comparisons, client, archive=archive)
    processes = processes or (usable() if len(votes) >= _MANY else 1)
    _prepare(archive)
    with Writer(directory) as writer, Drafts(directory, comparisons, by=by) as drafts:
        selection = examples.select(
            votes, completions, prompts, by=by, caps=trust.caps, processes=processes, taker=drafts
        )
        del votes
        clusters: set[str] = set()
        writer.add(examples.prompt_rows(examples.logged_rows(prompts, by=by), selection.spellings, clusters))
        for encoded in drafts.settled(selection, clusters):
            writer.put(encoded)
        return writer.finish(
            created=now(),
            last_event=last_event,
            dropped=selection.dropped,
            live_version=live,
            base_sha256=base_sha256,
            tokenizer_sha256=tokenizer_sha256,
            caps=selection.caps,
            votes=examples.outcomes(selection),
        )


def _standing(client: redis.Redis, directory: Path, ancestors: int) -> tuple[int, Freshness]:
    """The live version, and what is fresh to it. Raises UsageError if there is none, or if its snapshot is gone."""
    state = registry.state(client)
    if state is None:
        raise UsageError("There is no policy yet: start the stack with `plumbline up` first.")
    policies = {policy.version: policy for policy in registry.policies(client)}
    live = policies[state.live]
    since = snapshot.read_manifest(directory / live.snapshot).last_event if live.snapshot else _BEFORE_ALL
    return state.live, Freshness(versions=lineage(policies, state.live, ancestors), since=since)


def _circumstances(trust: Trust, salt: bytes, freshness: Freshness, raters: Iterable[LoggedRater]) -> Circumstances:
    return Circumstances(
        salt=salt,
        freshness=freshness,
        raters=events.rater_states(raters),
        weights=trust.weights,
        unknown=trust.unknown,
        fastest_s=trust.fastest_s,
    )


def _newest(votes: Sequence[LoggedVote], raters: Sequence[LoggedRater]) -> str:
    """The last entry of the log, of which both are in order."""
    ends = [vote.entry for vote in votes[-1:]] + [event.entry for event in raters[-1:]]
    return max(ends, key=events.position, default=_BEFORE_ALL)


def _prepare(archive: Archive) -> None:
    """Loads here, once for all processes, what each of them would load: the index of records, and Arrow's helpers."""
    for table in get_args(RecordTable):
        list(archive.records(table, ()))
    pa.array([""])


def lineage(policies: dict[int, PolicyVersion], version: int, ancestors: int) -> frozenset[int]:
    """A version and its nearest ancestors: `lineage(…, 3, 1) == {3, 1}` if 3 was trained from 1."""
    found = [version]
    for _ in range(ancestors):
        parent = policies[found[-1]].parent
        if parent is None:
            break
        found.append(parent)
    return frozenset(found)
