"""The controller over a real Redis: the fold of the log, who counts, and the way through the stages."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from core import audit, keys, registry, releases
from core import evidence as evidence_store
from core.errors import UsageError
from core.evidence import Evidence, Voter
from core.records import GateReport, PolicyState, Verdict
from core.redis import connect_async
from core.releases import Release
from core.settings import Settings
from feedback import archiving, rater_review
from feedback.archive import Archive
from feedback.rows import hashed_rater
from feedback.store import deployment_salt
from plumbline import release as controller
from tests.core.shadows import compared
from tests.plumbline.releasing import OWNER, age, answers, open_release, thumb, vote, votes
from tests.serving import policies


@pytest.fixture
def config(tmp_path: Path, redis_server: str) -> Settings:
    return Settings(home=tmp_path, redis_url=redis_server)


@pytest.fixture
def release(redis_client: redis.Redis) -> Release:
    """Version 1 against version 0, at 1 %; this process holds the lease."""
    opened = open_release(redis_client)
    assert evidence_store.claim(redis_client, OWNER, lease_s=60)
    return opened


@pytest.fixture
def look(redis_client: redis.Redis, config: Settings, release: Release) -> Callable[[], Evidence]:
    """One look, and the evidence after it."""

    def work() -> Evidence:
        controller.look(redis_client, config, owner=OWNER)
        found = evidence_store.load(redis_client, release.id)
        assert found is not None
        return found

    return work


@pytest.fixture
def review(redis_server: str) -> Callable[..., None]:
    def work(rater: str, action: rater_review.Action) -> None:
        async def send() -> None:
            async with connect_async(redis_server) as client:
                await rater_review.review(client, rater, action, reason="test", actor="test")

        asyncio.run(send())

    return work


# --- where it begins -------------------------------------------------------------------------------------------------


def test_a_candidate_that_waits_comes_next(redis_client: redis.Redis, config: Settings, release: Release) -> None:
    """While one release is open another candidate waits; when that is over its own is opened, by the scheduler."""
    version = judged(redis_client, live=0)
    assert controller.look(redis_client, config, owner=OWNER) is None
    assert registry.policy(redis_client, version).state is PolicyState.CANDIDATE

    releases.end(redis_client, release.id, state="kept", reason="test", actor="test")
    controller.look(redis_client, config, owner=OWNER)
    opened = releases.current(redis_client)
    assert opened is not None
    assert (opened.version, opened.actor, opened.share) == (version, "scheduler", 0.01)


def test_a_candidate_that_was_compared_with_another_waits_for_a_person(
    redis_client: redis.Redis, config: Settings, release: Release
) -> None:
    """The one before it went live: what its gate said is about the version that is gone."""
    version = judged(redis_client, live=0)
    releases.promote(redis_client, release.id, reason="test", actor="test")
    controller.look(redis_client, config, owner=OWNER)
    assert releases.current(redis_client) is None
    assert registry.policy(redis_client, version).state is PolicyState.CANDIDATE


def test_an_unseen_release_goes_on_when_the_judge_is_done(redis_client: redis.Redis, config: Settings) -> None:
    """Two hundred compared, then 1 %: nobody has voted, and no vote was waited for."""
    policies.initialise(redis_client, "sha-0")
    policies.publish(redis_client, "sha-1", stage=releases.SHADOW)
    assert evidence_store.claim(redis_client, OWNER, lease_s=60)
    compared(redis_client, "rel_1", win=120, loss=79)
    assert controller.look(redis_client, config, owner=OWNER) is None
    compared(redis_client, "rel_1", tie=1)
    controller.look(redis_client, config, owner=OWNER)
    release = releases.release(redis_client, "rel_1")
    assert (release.stage, release.share) == (1, 0.01)
    assert release.reason.startswith("the judge prefers 60.2% of 200 unseen answers")
    assert evidence_store.load(redis_client, "rel_1") is None


def test_with_a_shadow_the_next_one_begins_unseen(
    redis_client: redis.Redis, config: Settings, release: Release
) -> None:
    """`PLUMBLINE_SHADOW` above zero: whoever opens a release."""
    judged(redis_client, live=0)
    releases.end(redis_client, release.id, state="kept", reason="test", actor="test")
    controller.look(redis_client, config.model_copy(update={"shadow": 0.1}), owner=OWNER)
    opened = releases.current(redis_client)
    assert opened is not None
    assert (opened.stage, opened.share) == (0, 0.0)


def judged(client: redis.Redis, *, live: int) -> int:
    """A round ends that was compared with this version, as its record says too."""
    client.hset(keys.run("judged"), mapping={"state": "running", "attempt": 1})
    gate = GateReport(verdict=Verdict.PASS, live_version=live, checks=[], summary="test")
    made = registry.policy(client, live).model_copy(update={"parent": live, "run": "judged", "gate": gate})
    return registry.publish(client, made, gate, run="judged", attempt=1)


# --- whose votes count ----------------------------------------------------------------------------------------------


def test_the_log_is_counted_once(redis_client: redis.Redis, release: Release, look: Callable[[], Evidence]) -> None:
    """Each entry moves the evidence when it comes, and not when somebody looks again."""
    votes(redis_client, release, "aab")
    first = look()
    assert (first.wins, first.ties, first.losses) == (2, 0, 1)
    assert look() == first

    vote(redis_client, release, "late", "tie")
    last = vote(redis_client, release, "later", "both_bad")
    second = look()
    assert (second.wins, second.ties, second.losses, second.position) == (2, 2, 1, last)


def test_one_person_is_one_vote(redis_client: redis.Redis, release: Release, look: Callable[[], Evidence]) -> None:
    """The first counts, within one look and over several; people without an id never do."""
    for value in "abbb":
        vote(redis_client, release, "same", value)
    vote(redis_client, release, None, "b")
    assert (look().wins, look().losses) == (1, 0)

    vote(redis_client, release, "same", "b")
    assert (look().wins, look().losses) == (1, 0)


def test_only_what_the_release_drew_counts(
    redis_client: redis.Redis, release: Release, look: Callable[[], Evidence]
) -> None:
    """Neither comparisons that were drawn for something else, nor models, nor another release."""
    vote(redis_client, release, "one", "a", comparison={"asked": "random", "release": None})
    vote(redis_client, release, "two", "a", comparison={"asked": "active", "release": None})
    vote(redis_client, release, "three", "a", comparison={"release": "rel_9"})
    vote(redis_client, release, "four", "a", rater_kind="ai")
    assert look().raters == 0

    vote(redis_client, release, "one", "a")
    assert look().raters == 1


def test_a_changed_mind_is_not_blind(redis_client: redis.Redis, release: Release, look: Callable[[], Evidence]) -> None:
    """The vote told which policies stood there: withdrawn or revised, it counts as it was."""
    vote(redis_client, release, "one", "b")
    vote(redis_client, release, "one", "b", revision=2, withdrawn=True)
    vote(redis_client, release, "one", "a", revision=3)

    assert (look().wins, look().losses) == (0, 1)


def test_quarantine_takes_out_and_restoration_puts_back(
    redis_client: redis.Redis, release: Release, look: Callable[[], Evidence], review: Callable[..., None]
) -> None:
    """Also when it comes after the vote was counted, and again in the same look."""
    votes(redis_client, release, "ab")
    thumb(redis_client, "person-0", -1, release.version)
    assert (look().wins, look().losses, look().candidate_down) == (1, 1, 1)

    review("person-0", "quarantine")
    found = look()
    assert (found.wins, found.losses, found.candidate_down, found.aside) == (0, 1, 0, 1)
    review("person-0", "restore")
    assert (look().wins, look().losses, look().aside) == (1, 1, 0)


def test_who_was_set_aside_before_does_not_count(
    redis_client: redis.Redis, release: Release, look: Callable[[], Evidence], review: Callable[..., None]
) -> None:
    """What held at the vote's place in the log decides, not what holds when somebody looks."""
    review("before", "quarantine")
    vote(redis_client, release, "before", "a")
    vote(redis_client, release, "after", "a")
    review("after", "quarantine")
    review("before", "restore")

    found = look()
    assert (found.wins, found.aside) == (1, 1)
    hashed = hashed_rater(deployment_salt(redis_client), "after")
    assert evidence_store.voters(redis_client, release.id, [hashed]) == {hashed: Voter(outcome="win", aside=True)}


def test_erasure_takes_out_for_good(redis_client: redis.Redis, release: Release, look: Callable[[], Evidence]) -> None:
    """The tombstone names the person by their hash; nothing of what they gave stays, and no id lies here anyway."""
    votes(redis_client, release, "aab")
    assert look().wins == 2
    hashed = hashed_rater(deployment_salt(redis_client), "person-0")
    event = {"schema": 1, "rater": hashed, "action": "erase", "actor": "er_1", "created_at": 1.0}
    redis_client.xadd(keys.FEEDBACK, {"rater": json.dumps(event)})

    found = look()
    assert (found.wins, found.losses, found.aside) == (1, 1, 1)
    assert evidence_store.voters(redis_client, release.id, [hashed]) == {hashed: Voter(aside=True)}
    assert "person" not in json.dumps(redis_client.hgetall(keys.release_voters(release.id)))


def test_thumbs_go_to_their_arm(redis_client: redis.Redis, release: Release, look: Callable[[], Evidence]) -> None:
    """One a person and arm."""
    for rater, value, version in [("x", -1, 1), ("x", 1, 1), ("x", 1, 0), ("y", 1, 1), ("z", -1, 0), ("z", 1, 7)]:
        thumb(redis_client, rater, value, version)

    found = look()
    assert (found.candidate_thumbs, found.candidate_down) == (2, 1)
    assert (found.incumbent_thumbs, found.incumbent_down) == (2, 1)


def test_what_the_archive_holds_is_counted_too(
    redis_client: redis.Redis, release: Release, config: Settings, look: Callable[[], Evidence]
) -> None:
    """A scheduler that was away until Redis had given votes up goes on where it stopped; without the archive it says
    so and decides nothing."""
    votes(redis_client, release, "aab")
    assert look().wins == 2
    votes_later = [vote(redis_client, release, f"later-{number}", "b") for number in range(4)]
    archive = Archive(config.artifacts)
    assert archiving.run(redis_client, archive, copy_after_s=0, keep_s=0) is not None
    for name in redis_client.keys(keys.comparison("*")):
        redis_client.delete(name)
    assert archiving.run(redis_client, archive, copy_after_s=0, keep_s=0) is not None
    assert redis_client.xlen(keys.FEEDBACK) == 0

    with pytest.raises(UsageError, match="archive"):
        controller.follow(redis_client, release, Archive(config.directory / "elsewhere"), owner=OWNER)
    found = look()
    assert (found.wins, found.losses, found.position) == (2, 5, votes_later[-1])


# --- the way --------------------------------------------------------------------------------------------------------


def test_from_one_percent_to_live(
    redis_client: redis.Redis, redis_server: str, release: Release, config: Settings
) -> None:
    """Twenty quiet answers a stage, sixty people who prefer it: the candidate is live, each step with its reason."""
    votes(redis_client, release, "a" * 60)
    for batch in range(1, 4):
        assert controller.look(redis_client, config, owner=OWNER) is None
        answers(redis_server, redis_client, 20, batch=batch)
        assert controller.look(redis_client, config, owner=OWNER) is None, "a stage lasts ten seconds"
        age(redis_client, release, 11)
        controller.look(redis_client, config, owner=OWNER)

    ended = releases.release(redis_client, release.id)
    assert (ended.state, ended.actor) == ("promoted", "scheduler")
    assert ended.reason.startswith("people prefer the candidate: 60 won, 0 tied, 0 lost; log10 E is ")
    assert registry.policy(redis_client, 1).state == PolicyState.LIVE
    actions = [event.action for event in audit.history(redis_client)]
    assert actions[-3:] == ["release.advanced", "release.advanced", "promote"]
    assert controller.look(redis_client, config, owner=OWNER) is None


def test_evidence_against_ends_it(redis_client: redis.Redis, release: Release, config: Settings) -> None:
    """Eleven people of eleven prefer the incumbent, which stays; the reason lies in the audit trail."""
    votes(redis_client, release, "b" * 11)
    controller.look(redis_client, config, owner=OWNER)

    assert releases.release(redis_client, release.id).state == "rolled_back"
    assert registry.policy(redis_client, 1).state == PolicyState.ROLLED_BACK
    assert not redis_client.exists(keys.release_voters(release.id)), "who gave what is nobody's business any more"
    newest = audit.history(redis_client)[-1]
    assert (newest.action, newest.actor) == ("release.rolled_back", "scheduler")
    assert newest.reason.startswith("people prefer the incumbent: 0 won, 0 tied, 11 lost")


@pytest.mark.parametrize("sign", ["empty", "loops", "refuses", "failed"])
def test_a_guardrail_ends_it(
    redis_client: redis.Redis, redis_server: str, release: Release, config: Settings, sign: str
) -> None:
    """However many people prefer the candidate."""
    votes(redis_client, release, "a" * 60)
    answers(redis_server, redis_client, 20, batch=1, **{sign: True})
    controller.look(redis_client, config, owner=OWNER)

    ended = releases.release(redis_client, release.id)
    assert ended.state == "rolled_back"
    assert ended.reason.startswith("guardrail ")
    assert "20 of 20" in ended.reason


def test_who_lost_the_lease_does_nothing(redis_client: redis.Redis, release: Release, config: Settings) -> None:
    """Another scheduler goes on, from the same log to the same end."""
    votes(redis_client, release, "b" * 11)
    redis_client.hset(keys.RELEASE_LEASE, mapping={"owner": "other", "until": "9999999999"})
    assert controller.look(redis_client, config, owner=OWNER) is None
    assert releases.current(redis_client) == release

    controller.look(redis_client, config, owner="other")
    assert releases.release(redis_client, release.id).state == "rolled_back"


def test_a_release_that_somebody_stopped_is_left_alone(
    redis_client: redis.Redis, release: Release, config: Settings
) -> None:
    """Votes that come afterwards decide nothing."""
    releases.end(redis_client, release.id, state="stopped", reason="test", actor="somebody")
    votes(redis_client, release, "b" * 11)

    assert controller.look(redis_client, config, owner=OWNER) is None
    assert releases.release(redis_client, release.id).state == "stopped"
