"""Who voted is judged before what they said is trained on: asks for a survey of the votes, and draws the conclusions.

The survey (training/survey.py) needs the base and so a worker; the rest is numbers, here. Each step can be repeated:
quarantines are logged once, and the same votes give the same weights.
"""

import logging
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import redis
from numpy.typing import NDArray

from core import keys
from core.errors import UsageError
from core.records import now
from core.settings import Settings
from feedback import cross_fit, rater_review, snapshot, store, verdicts, witnesses
from feedback.archive import Archive
from feedback.cut import Trust
from feedback.snapshot import Snapshot
from feedback.verdicts import FROM_RATERS, Verdict
from feedback.witnesses import ACTOR, Hearing
from training import survey
from training.features import FILE, MOST_VOTES
from training.survey import Asked
from training.worker import ring_for_survey

log = logging.getLogger("plumbline.trust")
Rows = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Differences, and which witness each belongs to."""


def is_surveyable(found: Snapshot) -> bool:
    """Whether there is something to look at, and raters enough for it to matter."""
    return found.manifest.rows > 0 and found.manifest.raters >= FROM_RATERS


def looked_at(client: redis.Redis, config: Settings, asked: Asked) -> Asked | None:
    """The survey when nothing is left to wait for: it is there, or will not come, and `error` says why. None while it
    may; rings for it if nobody is at it."""
    if survey.state(client, config.artifacts, asked) == "silent":
        if survey.may_ring(client, asked, patience_s=config.lease_s):
            ring_for_survey(asked.snapshot, config)
        asked = survey.pending(client) or asked
    return asked if survey.state(client, config.artifacts, asked) in ("ready", "failed") else None


def is_erased(config: Settings, asked: Asked) -> bool:
    """Whether somebody was erased from the snapshot since, so that nothing that was seen there may be used."""
    try:
        snapshot.check_not_erased(config.artifacts / "snapshots" / asked.snapshot)
    except UsageError:
        return True
    return False


def judged(client: redis.Redis, config: Settings, *, of: str, error: str = "") -> Trust | None:
    """Judges all raters, logs whom it sets aside, and leaves reports for people.

    Args:
        of: the snapshot that was surveyed, or was to be.
        error: why it was not.

    Returns:
        What the next snapshot is to believe; None if nobody is weighed.

    Raises:
        UsageError: the log cannot be read whole.
    """
    hearing = witnesses.read(client, Archive(config.artifacts), salt=store.deployment_salt(client), most=MOST_VOTES)
    (preferred, rows), error = _survey(survey.directory(config.artifacts, of), hearing, error)
    found = cross_fit.judge([each.opinion for each in hearing.witnesses], preferred, rows)
    verdict = _set_aside(client, verdicts.verdict(found, as_of=now()), hearing)
    aside = {*hearing.aside, *(each.rater for each in verdict.quarantined)}
    report = verdicts.summary(
        found,
        votes=len(hearing.witnesses),
        surveyed=len(rows),
        quarantined=len(aside),
        snapshot=of,
        as_of=now(),
        error=error,
    )
    verdicts.publish(client, verdict.raters, report, kept=hearing.aside)
    client.hset(keys.SCHEDULER, "trust_error", error)
    log.info("%d votes by %d raters judged, %d set aside", len(hearing.witnesses), len(verdict.raters), len(aside))
    return Trust(weights=verdict.weights, unknown=verdict.unknown) if verdict.weights else None


def _survey(directory: Path, hearing: Hearing, error: str) -> tuple[Rows, str]:
    """The differences of these votes; none, and why, if they cannot be read."""
    nothing: Rows = np.zeros((0, 1)), np.zeros(0, dtype=np.int64)
    if error or not directory.exists():
        return nothing, error
    try:
        with np.load(directory / FILE, allow_pickle=False) as file:
            ids, preferred = file["feedback_id"].tolist(), file["preferred"].astype(np.float64)
        if not (len(ids) == len(preferred) and np.isfinite(preferred).all()):
            raise ValueError("its numbers are no numbers")
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as unreadable:
        return nothing, f"the survey in {directory} cannot be used: {unreadable}"
    place = {each.feedback_id: number for number, each in enumerate(hearing.witnesses)}
    known = [row for row, identifier in enumerate(ids) if identifier in place]
    return (preferred[known], np.array([place[ids[row]] for row in known], dtype=np.int64)), ""


def _set_aside(client: redis.Redis, verdict: Verdict, hearing: Hearing) -> Verdict:
    """Logs the quarantines. Whom a person restored since the log was read is not set aside, and weighs as anybody."""
    reports, weights = dict(verdict.raters), dict(verdict.weights)
    for report in verdict.quarantined:
        seen = hearing.reviewed.get(report.rater, "")
        held = rater_review.quarantine(client, report.rater, reason=report.reason, actor=ACTOR, seen=seen)
        if held.new:
            log.warning("a rater is set aside: %s", report.reason)
        if not held.quarantined:
            reports[report.rater] = report.model_copy(update={"quarantined": False, "weight": verdict.unknown})
            weights[report.rater] = verdict.unknown
    return replace(verdict, raters=reports, weights=weights)
