"""Cuts a snapshot: everything in the log so far, judged by the policy that is live now, frozen to disk."""

from pathlib import Path

import redis

from core import registry
from core.errors import UsageError
from core.records import PolicyVersion, now
from feedback import examples, snapshot, store
from feedback.examples import Freshness
from feedback.snapshot import Snapshot

_BEFORE_ALL = "0-0"


def cut_snapshot(
    client: redis.Redis,
    artifacts: Path,
    *,
    salt: bytes,
    base_sha256: str,
    tokenizer_sha256: str,
    max_staleness: int = 1,
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
    votes = store.votes(client)
    wanted = {completion for vote in votes for completion in vote.feedback.completion_ids}
    found = examples.build(
        votes,
        store.completions(client, sorted(wanted)),
        store.prompts(client),
        salt=salt,
        freshness=Freshness(versions=lineage(policies, state.live, max_staleness), since=since),
    )
    return snapshot.write(
        directory,
        pairs=found.pairs,
        thumbs=found.thumbs,
        prompts=found.prompts,
        created=now(),
        last_event=votes[-1].entry if votes else _BEFORE_ALL,
        dropped=found.dropped,
        live_version=state.live,
        base_sha256=base_sha256,
        tokenizer_sha256=tokenizer_sha256,
    )


def lineage(policies: dict[int, PolicyVersion], version: int, ancestors: int) -> frozenset[int]:
    """A version and its nearest ancestors: `lineage(…, 3, 1) == {3, 1}` if 3 was trained from 1."""
    found = [version]
    for _ in range(ancestors):
        parent = policies[found[-1]].parent
        if parent is None:
            break
        found.append(parent)
    return frozenset(found)
