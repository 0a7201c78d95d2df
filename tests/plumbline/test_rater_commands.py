"""`plumbline raters` and the raters in `plumbline status`, as an operator calls them."""

import subprocess
import time
from pathlib import Path

import pytest
import redis

from core import audit, keys, registry, sessions
from core.records import PolicyState, PolicyVersion, RaterReport, Share, TrustReport
from feedback import invitations, store
from plumbline import views
from tests import warm

LONG = "first side: e = 2.1e+06 after 38 votes"


def plumbline(*arguments: str, redis_url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"REDIS_URL": redis_url, "USER": "ann", "COLUMNS": "160"} | environment
    return warm.run("plumbline.cli", *arguments, **variables)


@pytest.fixture
def judged(redis_client: redis.Redis) -> None:
    """A round looked at the votes of two raters."""
    for rater, weight in (("user-7", 0.0), ("user-8", 0.9)):
        report = RaterReport(
            rater=rater,
            votes=41,
            judged=38,
            reliability=0.1,
            reliability_low=-0.4,
            reliability_high=0.5,
            weight=weight,
            quarantined=weight == 0,
            reason="" if weight else LONG,
            as_of=1790000100.0,
        )
        redis_client.hset(keys.TRUST_RATERS, rater, report.to_json())


def test_a_review_from_list_to_restoration(redis_server: str, redis_client: redis.Redis, judged: None) -> None:
    """Who was judged, who is set aside by whom and why; a decision is kept under the user's name, and twice is once."""
    listed = plumbline("raters", "list", redis_url=redis_server)
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [["user-7", "active"], ["user-8", "active"]]
    assert plumbline("raters", "list", "--quarantined", redis_url=redis_server).stdout.startswith("nobody")
    first, again = (
        plumbline("raters", "quarantine", "user-7", "--reason", "a [script]", redis_url=redis_server) for _ in range(2)
    )
    text = "user-7 is in quarantine: nothing of theirs is trained on from the next snapshot on."
    assert (first.returncode, first.stdout) == (0, text + "\n")
    assert again.stdout.startswith(f"{text} So it was since ") and again.stdout.endswith(", by cli:ann.\n")
    (line,) = plumbline("raters", "list", "--quarantined", redis_url=redis_server).stdout.splitlines()[1:]
    assert line.split()[:2] == ["user-7", "quarantined"] and line.rstrip().endswith("cli:ann  a [script]")
    restored = plumbline("raters", "restore", "user-7", "--reason", "a class of pupils", redis_url=redis_server)
    assert restored.stdout == "user-7 is not in quarantine: their votes count from the next snapshot on.\n"
    shown = plumbline("raters", "show", "user-7", redis_url=redis_server).stdout.splitlines()
    assert [line.split()[0] for line in shown] == [
        "rater",
        "state",
        "consent",
        "judged",
        "reliability",
        "weight",
        "found",
        "audited",
        "restore",
        "quarantine",
    ]
    assert shown[6].endswith(LONG)
    assert shown[8].endswith("by cli:ann: a class of pupils") and shown[9].endswith("by cli:ann: a [script]")
    assert [it.event.action for it in store.log(redis_client)[1]] == ["quarantine", "restore"]
    told = [(it.action, it.actor, it.reason) for it in audit.history(redis_client)]
    assert told == [("rater.quarantine", "cli:ann", "a [script]"), ("rater.restore", "cli:ann", "a class of pupils")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["quarantine", "user-7"], "--reason"),
        (["restore", "user-7", "--reason", " "], "A reason has 1 to 500 characters."),
        (["quarantine", "user-9", "--reason", "r"], "There is no rater of that name"),
        (["show", "user-9"], "There is no rater of that name"),
    ],
)
def test_a_mistake_is_one_line(redis_server: str, redis_client: redis.Redis, judged: None, arguments, expected) -> None:
    """What is wrong, no traceback, and nothing is logged."""
    result = plumbline("raters", *arguments, redis_url=redis_server)
    assert result.returncode == 2
    assert expected in result.stderr and "Traceback" not in result.stderr
    assert redis_client.exists(keys.FEEDBACK) == 0


def test_an_invitation_from_link_to_dismissal(redis_server: str, redis_client: redis.Redis, tmp_path: Path) -> None:
    """The link alone on standard output; it is signed with the deployment's secret. Who is invited is listed until they
    are dismissed, with a reason."""
    secret = "a secret of thirty-two characters"

    def raters(*arguments: str) -> subprocess.CompletedProcess[str]:
        return plumbline(
            "raters", *arguments, redis_url=redis_server, PLUMBLINE_SECRET=secret, PLUMBLINE_HOME=str(tmp_path)
        )

    made = raters("invite", "bea", "--days", "7", "--url", "https://chat.example/")
    page, _, token = made.stdout.strip().partition("#invitation=")
    assert (made.returncode, page) == (0, "https://chat.example/tasks")
    assert made.stderr.startswith("bea is invited until ")
    found = sessions.read(invitations.signing_key(secret.encode()), token, now=time.time())
    assert found is not None and found.rater == "bea"
    assert raters("invite", "bea").stdout.startswith("http://localhost:8000/tasks#invitation=")
    [listed] = raters("invited").stdout.splitlines()
    assert listed.startswith("bea  until ") and listed.endswith("  by cli:ann")
    assert "invited       until " in raters("show", "bea").stdout
    assert raters("dismiss", "bea", "--reason", " ").returncode == 2
    assert raters("dismiss", "bea", "--reason", "done").stdout == "bea is not invited any more.\n"
    again = raters("dismiss", "bea", "--reason", "done")
    assert (again.returncode, again.stderr.strip()) == (
        2,
        "plumbline: bea is not invited; `plumbline raters invited` shows who is.",
    )
    refused = raters("invite", "web-1")
    assert refused.returncode == 2 and "neither web-… nor key_…" in refused.stderr
    assert raters("invited").stdout == ""


@pytest.mark.parametrize("command", [[], ["list"], ["quarantine"]])
def test_help_teaches(tmp_path: Path, command: list[str]) -> None:
    """Each command explains itself; a decision says what it changes."""
    result = plumbline("raters", *command, "--help", redis_url=f"unix://{tmp_path}/nobody.sock")
    assert result.returncode == 0 and "Usage:" in result.stdout
    if command == ["quarantine"]:
        assert "--reason" in result.stdout and "required" in result.stdout


def test_a_name_is_whole_and_does_nothing_to_the_terminal(redis_server: str, redis_client: redis.Redis) -> None:
    """On a narrow terminal too; letters that would move the cursor or begin a style are spelled."""
    names = ["7c2f9a8e-1b2c-4d5e-8f90-aabbccddeeff-of-the-application", "[bold]x", "\x1b[2J\n"]
    redis_client.sadd(keys.QUARANTINED, *names)
    listed = plumbline("raters", "list", redis_url=redis_server, COLUMNS="60").stdout
    shown = [line.split()[0] for line in listed.splitlines()[1:]]
    assert shown == ["\\x1b[2J\\n", names[0], names[1]]


# --- status ---------------------------------------------------------------------------------------------------------


def trust_report(**given: object) -> TrustReport:
    fields: dict[str, object] = {
        "as_of": 1790000100.0,
        "snapshot": "5d41",
        "votes": 1200,
        "surveyed": 1100,
        "raters": 61,
        "quarantined": 3,
        "alpha_nominal": 0.456,
        "alpha_ordinal": None,
        "first": Share(value=0.53, low=0.49, high=0.57, count=612),
        "longer": Share(value=0.58, low=0.5, high=0.66, count=612),
        "longer_expected": 0.55,
    }
    return TrustReport.model_validate(fields | given)


def test_what_status_says_of_trust() -> None:
    """What is not known is left out."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1790000100))
    assert views.trusted(None, quarantined=1) == "no raters judged yet, 1 in quarantine"
    assert views.trusted(trust_report(), quarantined=2) == (
        "61 raters judged, 2 in quarantine; alpha 0.46, first side 53 % (49 % to 57 %), longer answer 58 % "
        f"(55 % expected); {at}"
    )
    unknown = trust_report(alpha_nominal=None, first=None, longer=None)
    assert views.trusted(unknown, quarantined=0) == f"61 raters judged, 0 in quarantine; {at}"


def test_status_shows_what_went_wrong(redis_server: str, redis_client: redis.Redis) -> None:
    """Why raters were judged without a survey, and why nothing is archived; nothing while all is well."""
    zero = PolicyVersion(
        version=0,
        parent=None,
        base_sha256="b",
        adapter_sha256="0" * 64,
        method="zero",
        created=1.0,
        state=PolicyState.CANDIDATE,
    )
    registry.initialise(redis_client, zero, actor="test")
    redis_client.set(keys.TRUST, trust_report().to_json())
    redis_client.hset(keys.SCHEDULER, mapping={"trust_error": "", "archive_error": ""})
    well = plumbline("status", redis_url=redis_server).stdout
    assert "trust         61 raters judged, 0 in quarantine; alpha 0.46" in well and "error" not in well
    redis_client.hset(keys.SCHEDULER, mapping={"trust_error": "no survey [came]", "archive_error": "disk full"})
    ill = plumbline("status", redis_url=redis_server).stdout
    assert ill.endswith("trust error   no survey [came]\narchive error disk full\n")
