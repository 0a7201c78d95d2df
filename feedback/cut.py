"""Cuts a snapshot: everything in the log so far, judged by the policy that is live now, frozen to disk.

Completions are read twice, a chunk at a time: to judge the votes, and to write the rows of those that are kept.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import redis

from core import registry
from core.errors import UsageError
from core.records import PolicyVersion, now
from feedback import events, examples, snapshot, store
from feedback.archive import Archive
from feedback.eligibility import Circumstances, Freshness, UsableVote
from feedback.examples import Selection
from feedback.influence import Caps
from feedback.rows import VoteRow
from feedback.snapshot import Snapshot, Writer

_BEFORE_ALL = "0-0"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """What a deployment believes of its raters; by default all of all."""

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Of a rater's rows; 1 of those who are not named."""
    fastest_s: float = 0.0
    """See `Circumstances.fastest_s`."""
    caps: Caps = dataclasses.field(default_factory=Caps)


def cut_snapshot(
    client: redis.Redis,
    artifacts: Path,
    *,
    salt: bytes,
    base_sha256: str,
    tokenizer_sha256: str,
    max_staleness: int = 1,
    trust: Trust | None = None,
) -> Snapshot:
    """Freezes all votes to date under `artifacts`/snapshots/{id}/; doing it twice gives the same one.

    Policy rows are those of the live version and its `max_staleness` nearest ancestors that the live policy has not
    been trained on. A rejected candidate consumes nothing: only what a *live* policy learned from counts as used.

    Raises:
        UsageError: there is no policy yet, or the live policy's own snapshot is gone.
    """
    state = registry.state(client)
    if state is None:
        raise UsageError("There is no policy yet: start the stack with `plumbline up` first.")
    policies = {policy.version: policy for policy in registry.policies(client)}
    directory = artifacts / "snapshots"
    live = policies[state.live]
    since = snapshot.read_manifest(directory / live.snapshot).last_event if live.snapshot else _BEFORE_ALL
    trust = trust or Trust()
    archive = Archive(artifacts)
    votes, raters = store.log(client, archive)
    by = Circumstances(
        salt=salt,
        freshness=Freshness(versions=lineage(policies, state.live, max_staleness), since=since),
        raters=events.rater_states(raters),
        weights=trust.weights,
        fastest_s=trust.fastest_s,
    )
    entries = [*(vote.entry for vote in votes), *(event.entry for event in raters)]
    prompts = store.prompts(client)
    completions = partial(store.completions, client, archive=archive)
    selection = examples.select(votes, completions, prompts, by=by, caps=trust.caps)
    with Writer(directory) as writer:
        clusters: set[str] = set()
        writer.add(examples.prompt_rows(examples.logged_rows(prompts, by=by), selection.spellings, clusters))
        for found in _rows(client, archive, selection, by):
            writer.add(found)
            writer.add(examples.prompt_rows(found, selection.spellings, clusters))
        return writer.finish(
            created=now(),
            last_event=max(entries, key=events.position, default=_BEFORE_ALL),
            dropped=selection.dropped,
            live_version=state.live,
            base_sha256=base_sha256,
            tokenizer_sha256=tokenizer_sha256,
            caps=selection.caps,
            votes=examples.outcomes(selection),
        )


def _rows(client: redis.Redis, archive: Archive, selection: Selection, by: Circumstances) -> Iterator[list[VoteRow]]:
    """The rows of each vote. One whose completions expired since they were judged is excluded."""
    for chunk in examples.chunks(selection.votes):
        records = store.completions(client, (side for vote in chunk for side in vote.sides), archive)
        asked = store.comparisons(client, {vote.feedback.target.id for vote in chunk if _of_comparison(vote)}, archive)
        for vote in chunk:
            if records.keys() >= set(vote.sides):
                comparison = asked.get(vote.feedback.target.id)
                yield examples.rows(vote, records, by=by, propensity=comparison.propensity if comparison else None)
            else:
                selection.exclude(vote, "expired")


def _of_comparison(vote: UsableVote) -> bool:
    return vote.feedback.target.type == "comparison"


def lineage(policies: dict[int, PolicyVersion], version: int, ancestors: int) -> frozenset[int]:
    """A version and its nearest ancestors: `lineage(…, 3, 1) == {3, 1}` if 3 was trained from 1."""
    found = [version]
    for _ in range(ancestors):
        parent = policies[found[-1]].parent
        if parent is None:
            break
        found.append(parent)
    return frozenset(found)
