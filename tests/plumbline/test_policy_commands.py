"""`plumbline policies`, `releases` and `audit`, as an operator calls them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from core import audit, evidence, keys, registry, releases
from core.evidence import Evidence
from feedback.head_to_head import head_to_head
from feedback.leaderboard import Interval
from plumbline import policy_views
from tests.core.shadows import compared
from tests.plumbline.test_cli import plumbline
from tests.plumbline.test_policies import family

__all__ = ["family"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(family: redis.Redis, redis_server: str, tmp_path: Path) -> Run:
    """A command on the family's registry, by somebody called ann."""

    def called(*arguments: str) -> subprocess.CompletedProcess[str]:
        where = {"REDIS_URL": redis_server, "PLUMBLINE_ARTIFACTS_URL": str(tmp_path), "USER": "ann", "COLUMNS": "200"}
        return plumbline(*arguments, **where)

    return called


def test_lineage_is_a_tree(run: Run) -> None:
    """Version, votes, parent, its votes, down to v0."""
    told = run("policies", "lineage", "3").stdout
    places = [told.index(text) for text in ("assistant@v3", "200 pairs", "assistant@v1", "100 pairs", "assistant@v0")]
    assert places == sorted(places)
    assert "pairs by fold: 199 optimize, 1 judge" in told and "dropped: 3 tie" in told


def test_diff_shows_what_differs(run: Run) -> None:
    """With the difference where both are numbers."""
    told = run("policies", "diff", "2", "3").stdout
    assert "by descent: v2 → v1 → v3" in told
    (win_rate,) = [line.split() for line in told.splitlines() if line.strip().startswith("win_rate")]
    assert win_rate == ["win_rate", "0.65", "0.7", "+0.05"]
    (beta,) = [line.split() for line in told.splitlines() if line.strip().startswith("dpo.beta")]
    assert beta == ["dpo.beta", "0.2", "0.3", "+0.1"]
    assert "people: nobody has compared v3 with v2" in told


def test_people_are_shown_with_their_interval() -> None:
    """Win rate, how many said so, and what length explains of it."""
    share = Interval(value=0.572, low=0.491, high=0.65)
    found = head_to_head([], 6, 7).model_copy(
        update={"votes": 212, "raters": 61, "by_rater": True, "win_rate": share, "at_equal_length": share}
    )
    assert policy_views.preferred_by_people(found) == (
        "people: v7 is preferred to v6 in 57.2% (49.1% to 65.0%) of 212 votes of 61 raters; "
        "at equal length 57.2% (49.1% to 65.0%)"
    )
    few = policy_views.preferred_by_people(found.model_copy(update={"by_rater": False}))
    assert few.endswith("; intervals over votes, as of fewer than 20 raters")


def test_promotion_by_hand_needs_force_and_a_reason(run: Run, family: redis.Redis) -> None:
    """Without either nothing happens, and one line says what is missing."""
    refused = run("policies", "promote", "2", "--reason", "r")
    assert refused.returncode == 2 and "add --force" in refused.stderr
    assert run("policies", "promote", "2", "--force").returncode == 2
    empty = run("policies", "promote", "2", "--force", "--reason", " ")
    assert empty.returncode == 2 and "--reason is empty" in empty.stderr
    assert registry.state(family).live == 3
    assert run("policies", "promote", "2", "--force", "--reason", "a test").stdout == (
        "assistant@v2 is live, instead of v3.\n"
    )
    last = audit.history(family)[-1]
    assert (last.action, last.version, last.actor, last.reason) == ("promote", 2, "cli:ann", "a test")


def test_rollback_needs_a_reason(run: Run, family: redis.Redis) -> None:
    """With one the parent is live."""
    assert run("policies", "rollback").returncode == 2
    assert run("policies", "rollback", "--reason", "worse").stdout == "assistant@v1 is live.\n"
    assert "worse" in run("policies", "history").stdout


def test_releases_are_listed_shown_and_stopped(run: Run, family: redis.Redis) -> None:
    """An open one stands in `status` too; what is over is not stopped again."""
    assert "rel_1" in run("releases", "list").stdout
    family.hset(keys.run("r"), mapping={"state": "running", "attempt": 1})
    parent = registry.policy(family, 3)
    candidate = parent.model_copy(update={"parent": 3, "run": "r"})
    gate = parent.gate.model_copy(update={"live_version": 3})
    assert registry.publish(family, candidate, gate, run="r", attempt=1) == 4
    assert "rel_4: assistant@v4 answers 1 %" in run("status").stdout
    assert "gate passed" in run("releases", "show", "rel_4").stdout
    looked = Evidence(release="rel_4", position="1-0", wins=10, log10_e=1.215, low=0.6, high=1.0)
    assert evidence.claim(family, "test", lease_s=60)
    assert evidence.save(family, looked, {}, before=None, owner="test")
    assert "10 won, 0 tied, 0 lost; log10 E is 1.2 for" in run("releases", "show", "rel_4").stdout
    compared(family, "rel_4", win=3, tie=1, loss=2)
    shown = run("releases", "show", "rel_4").stdout
    assert "the judge prefers 58.3% of 6 unseen answers (24.1% to 86.1%); 30 tokens, the incumbent's 20" in shown
    assert run("releases", "stop", "rel_4", "--reason", "not today").stdout == "rel_4 is stopped.\n"
    assert releases.release(family, "rel_4").actor == "cli:ann"
    again = run("releases", "stop", "rel_4", "--reason", "again")
    assert again.returncode != 0 and "not open any more" in again.stderr
    assert "no release 'rel_9'" in run("releases", "show", "rel_9").stderr


def test_a_candidate_that_waits_is_released_by_hand(run: Run, family: redis.Redis) -> None:
    """What has its release or was rejected gets none."""
    refused = run("policies", "release", "2", "--reason", "r")
    assert refused.returncode == 2 and "Version 2 is no candidate that waits" in refused.stderr
    family.hset(keys.POLICY_STATES, "2", "candidate")
    assert run("policies", "release", "2", "--reason", "it waits").stdout.startswith("rel_2: assistant@v2 answers 1 % ")
    assert releases.current(family).actor == "cli:ann"


def test_audit_verify_finds_what_was_changed(run: Run, family: redis.Redis) -> None:
    """Whole: the last hash. One word edited: which entry, and status 1."""
    whole = run("audit", "verify")
    head = audit.check(family).head
    assert whole.returncode == 0 and f"the last has the hash {head}" in whole.stdout
    assert run("audit", "verify", "--head", head).returncode == 0
    assert run("audit", "verify", "--head", "0" * 64).returncode == 1
    entries = family.xrange(keys.AUDIT)
    family.delete(keys.AUDIT)
    for entry, fields in entries:
        family.xadd(keys.AUDIT, fields | ({"reason": "nothing"} if entry == entries[3][0] else {}), id=entry)
    found = run("audit", "verify")
    assert found.returncode == 1
    assert found.stderr.startswith(f"entry {entries[3][0]} was edited") and "3 entries before" in found.stderr
