"""The release controller: reads the feedback log in its order, and once a second moves the open release or ends it.

It is a thread of the scheduler, beside Celery: a task on the `ops` queue would wait behind archiving or a survey for
minutes, and a bad candidate must go within seconds. The thread talks to Redis and nothing else. It starts when the
worker is ready, that is after Celery has forked its beat, and dies with the process.

Of several schedulers the one that holds a lease does this. What it writes is a compare-and-set on the position in the
log, and what it does on the release's own state: a controller that was killed or paused anywhere leaves nothing half
done, and the next one comes to the same findings, because they are a function of the log. Guardrails and the last day
depend on when one looks; they can only stop.
"""

import json
import logging
import secrets
import threading
from collections.abc import Iterator
from itertools import islice
from typing import cast

import redis

from core import evidence as evidence_store
from core import exposures, keys, registry, releases, shadow
from core.errors import PlumblineError
from core.evidence import Evidence, Voter
from core.records import Comparison, Feedback, RaterEvent
from core.redis import clock, connect
from core.releases import Release
from core.settings import Settings
from feedback import log as feedback_log
from feedback.archive import Archive, Entry
from feedback.events import after, position
from feedback.rows import hashed_rater
from feedback.store import deployment_salt
from plumbline import release_sentinel
from serving import evidence as rules
from serving.evidence import Given
from serving.release import Step, after_shadow, next_step

INTERVAL_S = 1.0
LEASE_S = 5.0
BATCH = 500
"""Entries of the log that are counted in one write."""

log = logging.getLogger("plumbline.release")


def start(config: Settings) -> threading.Thread:
    """Runs the controller for as long as this process lives."""
    thread = threading.Thread(target=run, args=(config, threading.Event()), name="release", daemon=True)
    thread.start()
    return thread


def run(config: Settings, stopping: threading.Event, *, interval_s: float = INTERVAL_S) -> None:
    """Looks once a second until told to stop; whatever goes wrong is logged and tried again."""
    owner = secrets.token_hex(8)
    with connect(config.redis_url) as client:
        while not stopping.wait(interval_s):
            try:
                if evidence_store.claim(client, owner, lease_s=LEASE_S):
                    look(client, config, owner=owner)
            except (redis.RedisError, PlumblineError) as error:
                log.warning("the release waits: %s", error)
            except Exception:  # the loop outlives anything: without it no bad candidate would ever be rolled back
                log.exception("a look at the release failed")


def look(client: redis.Redis, config: Settings, *, owner: str) -> Step | None:
    """One look at the open release, and the step that follows from it. `owner` holds the lease."""
    release = releases.current(client) or _begun(client, config)
    if release is None:
        return None
    if release.share == 0:  # nobody sees it: there is nothing that people could have said
        step = after_shadow(release, shadow.load(client, release.id), now=clock(client))
        return _taken(client, release, step)
    evidence = follow(client, release, Archive(config.artifacts), owner=owner)
    if evidence is None:
        return None
    arms = exposures.read(client, release.id, share=release.share)
    step = next_step(release, evidence, arms, now=clock(client), max_days=config.release_days)
    step = release_sentinel.heard(client, release, rules.tally(evidence), step)
    return _taken(client, release, step)


def _begun(client: redis.Redis, config: Settings) -> Release | None:
    """The release of the candidate that waits for its turn, if its gate compared it with what is live now; a person may
    open another's (`plumbline policies release`)."""
    candidate = registry.waiting(client)
    if candidate is None or candidate.gate is None:
        return None
    stage = releases.first_stage(config.shadow)
    reason, against = "gate passed, and no other release is open any more", candidate.gate.live_version
    return releases.begin(client, candidate.version, stage=stage, reason=reason, actor="scheduler", against=against)


def _taken(client: redis.Redis, release: Release, step: Step | None) -> Step | None:
    """Raises Conflict if somebody moved the release meanwhile: the next look sees what is there then."""
    if step is not None:
        log.info("%s: %s, %s", release.id, step.kind, step.reason)
        _take(client, release, step)
    return step


def _take(client: redis.Redis, release: Release, step: Step) -> None:
    if step.kind == "advance":
        releases.advance(client, release.id, from_stage=release.stage, reason=step.reason)
        return
    if step.kind == "promoted":
        releases.promote(client, release.id, reason=step.reason, actor="scheduler")
    else:
        releases.end(client, release.id, state=step.kind, reason=step.reason, actor="scheduler")
    evidence_store.forget(client, release.id)


def follow(client: redis.Redis, release: Release, archive: Archive, *, owner: str) -> Evidence | None:
    """The evidence with all that the log holds by now. None if another scheduler took over."""
    known = evidence_store.load(client, release.id)
    before = known.position if known else None
    evidence = known or Evidence(release=release.id, position=f"{int(release.opened * 1000)}-0")
    while entries := list(islice(_entries(client, archive, evidence.position), BATCH)):
        evidence, voters = _counted(client, release, archive, evidence, entries)
        evidence = rules.summarised(evidence)
        if not evidence_store.save(client, evidence, voters, before=before, owner=owner):
            return None
        before = evidence.position
        if not evidence_store.claim(client, owner, lease_s=LEASE_S):  # a long log takes longer than a lease
            return None
    return evidence


def _entries(client: redis.Redis, archive: Archive, seen: str) -> Iterator[Entry]:
    """The log behind `seen`; what Redis gave up while nobody looked lies in the archive."""
    found = feedback_log.stream(client, after=seen, count=BATCH)
    if not after(feedback_log.trimmed(client), seen):  # asked afterwards: nothing of these was given up before
        return iter(found)
    return (entry for entry in feedback_log.entries(client, archive) if after(entry.position, seen))


def _counted(
    client: redis.Redis, release: Release, archive: Archive, evidence: Evidence, entries: list[Entry]
) -> tuple[Evidence, dict[str, Voter]]:
    """The evidence after these entries, and the people whose part changed."""
    salt = deployment_salt(client)
    said = {entry.position: Feedback.model_validate_json(entry.event) for entry in entries if entry.event}
    events = {entry.position: RaterEvent.model_validate_json(entry.rater) for entry in entries if entry.rater}
    comparisons = _comparisons(client, archive, list(said.values()))
    people = {it: hashed_rater(salt, feedback.rater) for it, feedback in said.items()}
    people |= {it: _hashed(salt, event) for it, event in events.items()}
    voters, changed = evidence_store.voters(client, release.id, sorted(set(people.values()))), {}
    for where, rater in sorted(people.items(), key=lambda it: position(it[0])):
        old = voters.get(rater)
        if where in events:
            new = _reviewed(old, events[where])
        else:
            given = _given(said[where], comparisons, release)
            known = old or (Voter(aside=_is_aside(client, said[where].rater, where)) if given else None)
            new = rules.give(known, given) if known and given else None
        if new is not None and new != old:
            evidence = rules.changed(evidence, old or Voter(), new, position=where, alpha=release.alpha)
            voters[rater] = changed[rater] = new
    return evidence.model_copy(update={"position": entries[-1].position}), changed


def _given(feedback: Feedback, comparisons: dict[str, Comparison], release: Release) -> Given | None:
    comparison = comparisons.get(feedback.target.id)
    return rules.vote(feedback, comparison, release) if comparison else rules.thumb(feedback, release)


def _comparisons(client: redis.Redis, archive: Archive, said: list[Feedback]) -> dict[str, Comparison]:
    """What the preferences among these are about; from the archive only what Redis holds no more."""
    ids = {feedback.target.id for feedback in said if feedback.kind == "preference"}
    found = dict(feedback_log.records(client, "comparisons", ids))
    if missing := ids - found.keys():
        found |= dict(feedback_log.records(client, "comparisons", missing, archive))
    return {identifier: Comparison.model_validate_json(record) for identifier, record in found.items()}


def _hashed(salt: bytes, event: RaterEvent) -> str:
    """Whom an event is about; an erasure names them by their hash already."""
    return event.rater if event.action == "erase" else hashed_rater(salt, event.rater)


def _reviewed(voter: Voter | None, event: RaterEvent) -> Voter | None:
    """What an event makes of somebody's part; None if they have none yet, or if it changes none."""
    if voter is None or event.action == "consent":
        return None
    if event.action == "erase":
        return Voter(aside=True)
    return voter.model_copy(update={"aside": event.action == "quarantine"})


def _is_aside(client: redis.Redis, rater: str | None, where: str) -> bool:
    """Whether somebody was in quarantine at that place of the log."""
    fields = cast(dict[str, str], client.hgetall(keys.rater(str(rater))))
    reviews = {name.removeprefix("review:"): event for name, event in fields.items() if name.startswith("review:")}
    before = [place for place in reviews if not after(place, where)]
    return bool(before) and json.loads(reviews[max(before, key=position)])["action"] == "quarantine"
