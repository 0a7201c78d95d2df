"""What one person left behind: found before anything is removed, because what is removed leads to the rest.

A conversation is the person's if its record says so; one that is nobody's in particular is theirs if they voted on it,
as applications often name the person with the vote only. What hired raters judge as a task is not theirs.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pyarrow.compute as pc  # type: ignore[import-untyped]
import redis
from pydantic import BaseModel, ConfigDict

from core import keys
from core.records import Comparison, Message
from feedback import log as one_log
from feedback import store
from feedback.archive import Archive, RecordTable
from feedback.events import position
from feedback.rows import cluster_of, hashed_rater

_TABLES: dict[RecordTable, str] = {"completions": keys.completion("*"), "comparisons": keys.comparison("*")}


class Traces(BaseModel):
    """Where a person's data lies; all ids are random but for feedback ids that a client chose."""

    model_config = ConfigDict(frozen=True)

    rater: str
    hashed: str
    """The rater as snapshots and the tombstone know them."""
    targets: set[str] = set()
    """Completions and comparisons that are theirs."""
    voted: set[str] = set()
    """Those of others that they voted on."""
    votes: set[str] = set()
    """Feedback ids: of theirs, and of anybody's on what is theirs, as a correction repeats what it corrects."""
    clusters: dict[str, float] = {}
    """Of their prompts, each with when it first came: a snapshot's prompts do not say whose they are."""

    def merged(self, other: "Traces") -> "Traces":
        """Both: what a killed attempt had found, and what is found now."""
        earliest = {
            cluster: min(self.clusters.get(cluster, at), other.clusters.get(cluster, at))
            for cluster, at in (self.clusters | other.clusters).items()
        }
        return Traces(
            rater=self.rater,
            hashed=self.hashed,
            targets=self.targets | other.targets,
            voted=self.voted | other.voted,
            votes=self.votes | other.votes,
            clusters=earliest,
        )

    def in_event(self, event: str) -> bool:
        """Whether a Feedback (JSON) is theirs or about what is theirs."""
        said = json.loads(event)
        about = {said["target"]["id"], *said["completion_ids"]}
        return said.get("rater") == self.rater or said["id"] in self.votes or not self.targets.isdisjoint(about)

    def in_entry(self, event: str | None, rater_event: str | None) -> bool:
        """Whether an entry of the log is."""
        if event is not None:
            return self.in_event(event)
        return rater_event is not None and json.loads(rater_event)["rater"] == self.rater

    def is_vote_field(self, field: str) -> bool:
        """Whether a field of a target's hash names a vote of theirs."""
        return re.fullmatch(rf"v:[a-z_]+:{re.escape(self.rater)}:\d+:[a-z]+", field, re.DOTALL) is not None


def trace(client: redis.Redis, archive: Archive, rater: str) -> Traces:
    """Looks through Redis and the archive; twice through the log."""
    found = Traces(rater=rater, hashed=hashed_rater(store.deployment_salt(client), rater))
    for table in _TABLES:
        found.targets.update(_recorded(client, archive, table, rater))
    given, tasks = _judged(client, archive, found)
    nobodys, others = _owners(client, archive, given | tasks)
    found.targets.update(nobodys & given)
    found.voted.update((others | nobodys) - found.targets)
    _complete(client, archive, found)
    found.votes.update(json.loads(event)["id"] for event in _events(client, archive) if found.in_event(event))
    for identifier, said in logged_prompts(client):
        if said.get("rater") == rater:
            _met(found, said["messages"], position(identifier)[0] / 1000)
    return found


def logged_prompts(client: redis.Redis) -> Iterator[tuple[str, dict[str, Any]]]:
    """Position and content of each entry of the prompt stream."""
    start = "-"
    while chunk := cast(list[tuple[str, dict[str, str]]], client.xrange(keys.PROMPTS, min=start, count=one_log.CHUNK)):
        yield from ((identifier, json.loads(fields["prompt"])) for identifier, fields in chunk)
        start = f"({chunk[-1][0]}"


def _recorded(client: redis.Redis, archive: Archive, table: RecordTable, rater: str) -> Iterator[str]:
    """Ids of the records that name the rater."""
    for names in one_log.batches(client.scan_iter(match=_TABLES[table], count=one_log.CHUNK)):
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.hget(name, "record")
        held = (json.loads(record) for record in pipeline.execute() if record is not None)
        yield from (record["id"] for record in held if record.get("rater") == rater)
    for partition in archive.manifest().partitions:
        with archive.open(partition.files[table]) as file:
            for batch in file.iter_batches(columns=["id", "rater"]):
                yield from batch.filter(pc.equal(batch["rater"], rater))["id"].to_pylist()


def _judged(client: redis.Redis, archive: Archive, found: Traces) -> tuple[set[str], set[str]]:
    """Everything that they voted on: by themselves, and as hired raters. A comparison stands with its sides."""
    given: set[str] = set()
    tasks: set[str] = set()
    for event in _events(client, archive):
        said = json.loads(event)
        if said.get("rater") == found.rater:
            (tasks if said.get("source") == "task" else given).update([said["target"]["id"], *said["completion_ids"]])
    return given, tasks


def _owners(client: redis.Redis, archive: Archive, ids: set[str]) -> tuple[set[str], set[str]]:
    """Those that are nobody's in particular, and those that are somebody's."""
    nobodys: set[str] = set()
    others: set[str] = set()
    for table in _TABLES:
        for identifier, record in one_log.records(client, table, _of(table, ids), archive):
            (nobodys if json.loads(record).get("rater") is None else others).add(identifier)
    return nobodys, others


def _complete(client: redis.Redis, archive: Archive, found: Traces) -> None:
    """All sides of a comparison with one of theirs, and the prompts of all."""
    for _, record in one_log.records(client, "completions", _of("completions", found.targets), archive):
        if comparison := json.loads(record).get("comparison_id"):
            found.targets.add(comparison)
    for _, record in one_log.records(client, "comparisons", _of("comparisons", found.targets), archive):
        found.targets.update(Comparison.model_validate_json(record).completion_ids)
    for _, record in one_log.records(client, "completions", _of("completions", found.targets), archive):
        said = json.loads(record)
        _met(found, said["messages"], said["created"])


def _of(table: RecordTable, ids: Iterable[str]) -> list[str]:
    return sorted(identifier for identifier in ids if identifier.startswith("cmp_") == (table == "comparisons"))


def _met(found: Traces, messages: Iterable[dict[str, Any]], at: float) -> None:
    turns = [Message.model_validate(message) for message in messages]
    if turns:  # else nothing was kept
        cluster = cluster_of(turns)
        found.clusters[cluster] = min(found.clusters.get(cluster, at), at)


def _events(client: redis.Redis, archive: Archive) -> Iterator[str]:
    return (entry.event for entry in one_log.entries(client, archive) if entry.event is not None)
