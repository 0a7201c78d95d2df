"""What the demo writes down and prints, from one fixed result."""

import json

import pytest
from rich.console import Console

from core.records import Verdict
from lab.report import Control, Example, ReleaseFigures, ReleaseStep, Report, RoundFigures, Versus, render

RELEASE = ReleaseFigures(
    id="rel_1",
    against=0,
    state="promoted",
    reason="people prefer the candidate",
    seconds=182.5,
    raters=144,
    won=90,
    tied=4,
    lost=50,
    log10_e=1.34,
    steps=[
        ReleaseStep(what="release.opened", after_s=0.0, reason="gate passed"),
        ReleaseStep(what="promote", after_s=182.5, reason="people prefer the candidate"),
    ],
)
FIRST = RoundFigures(
    version=1,
    method="dpo",
    votes=712,
    policy_rows=498,
    dropped={"truncated": 4, "identical": 31},
    thumbs=181,
    rm_accuracy=0.683,
    rm_ceiling=0.842,
    kl_parent=0.71,
    kl_base=0.71,
    tokens=21.4,
    gate=Verdict.PASS,
    gate_reason="wins 63.1% against version 0",
    release=RELEASE,
    win_rate=0.656,
    win_rate_low=0.631,
    win_rate_high=0.681,
    good=0.39,
    vote_to_first_token_s=97.4,
    served=611,
    failed=0,
)
SECOND = FIRST.model_copy(
    update={
        "version": 2,
        "dropped": {},
        "kl_parent": None,
        "gate": Verdict.FAIL,
        "gate_reason": "win_rate_low is 0.49, it must be > 0.5",
        "release": None,
        "win_rate": None,
        "win_rate_low": None,
        "win_rate_high": None,
        "good": None,
        "vote_to_first_token_s": None,
    }
)
REFUSED = FIRST.model_copy(update={"release": RELEASE.model_copy(update={"state": "rolled_back"})})
REPORT = Report(
    rounds=[FIRST, SECOND],
    control=Control(win_rate=0.497, win_rate_low=0.476, win_rate_high=0.519, good=0.2, tokens=22.9),
    v2_vs_v1=None,
    prompts=1000,
    newest=1,
    examples=[Example(prompt="A dog is", before="a cat [bold].", after="an animal that guards the house.")],
    seconds={"evaluation": 61.2},
    failed=0,
)


def printed(report: Report, *, width: int) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(render(report, width=width))
    return capture.get()


def words(line: str) -> str:
    return " ".join(line.split())


def lines_with(text: str, start: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip().startswith(start)]


def test_a_row_a_round() -> None:
    """Each round is one row with all of its figures, two numbers of a cell on two lines; a dash for what is unknown."""
    lines = printed(REPORT, width=130).splitlines()
    first, second, control = (
        next(i for i, line in enumerate(lines) if line.startswith(start))
        for start in (" v1 dpo", " v2 dpo", " v0 again")
    )

    assert words(lines[first]) == "v1 dpo 712 31 identical 181 0.683 0.71 21.4 pass 0.656 0.390 97 s 611"
    assert words(lines[first + 1]) == "4 truncated 0.842 0.71 [0.631, 0.681] 0"
    assert words(lines[second]) == "v2 dpo 712 none 181 0.683 – 21.4 fail – – – 611"
    assert words(lines[control]) == "v0 again 22.9 control 0.497 0.200"
    assert words(lines[control + 1]) == "[0.476, 0.519]"


def test_a_narrow_terminal_loses_no_number() -> None:
    """On 80 columns the table comes in two halves, and no cell is cut."""
    text = printed(REPORT, width=80)

    assert "…" not in text
    assert [len(lines_with(text, start)) for start in ("v1 dpo", "v0 again")] == [2, 2]
    assert "[0.631, 0.681]" in text


def test_the_notes_say_what_the_table_cannot() -> None:
    """Reasons of the gate, what thumbs teach, the pair of versions, and answers side by side, verbatim."""
    pair = Versus(
        newer=2,
        older=1,
        win_rate=0.53,
        win_rate_low=0.51,
        win_rate_high=0.55,
        difference=-0.031,
        difference_low=-0.06,
        difference_high=0.004,
    )
    text = printed(REPORT.model_copy(update={"v2_vs_v1": pair}), width=150)

    assert "v2: gate fail: win_rate_low is 0.49, it must be > 0.5" in text
    assert "Thumbs teach the reward model" in text
    assert "wins 0.530 [0.510, 0.550]" in text
    assert "-0.031 [-0.060, +0.004]" in text
    assert "a cat [bold]." in text
    assert "an animal that guards the house." in text


def test_the_json_file_has_the_agreed_keys() -> None:
    """Other programs read these names and types."""
    written = json.loads(REPORT.model_dump_json())

    assert {"rounds", "control", "v2_vs_v1", "seconds"} <= written.keys()
    agreed = "version method votes dropped win_rate win_rate_low win_rate_high rm_accuracy rm_ceiling kl_parent kl_base"
    agreed += " gate served failed vote_to_first_token_s"
    assert set(agreed.split()) <= written["rounds"][0].keys()
    assert [row["gate"] for row in written["rounds"]] == ["pass", "fail"]
    assert written["rounds"][0]["dropped"] == {"truncated": 4, "identical": 31}
    assert written["rounds"][1]["win_rate"] is None
    assert Report.model_validate(written) == REPORT


@pytest.mark.parametrize(
    ("rounds", "failed", "expected"),
    [([FIRST, SECOND], 0, True), ([FIRST, SECOND], 1, False), ([SECOND, FIRST], 0, False), ([REFUSED], 0, False)],
)
def test_success_is_no_failed_chat_and_a_first_round_that_went_live(
    rounds: list[RoundFigures], failed: int, expected: bool
) -> None:
    """A rejection in a later round is the gate at work; in the first one nothing was ever swapped in."""
    assert REPORT.model_copy(update={"rounds": rounds, "failed": failed}).succeeded is expected


def test_the_way_of_a_release_is_told_step_by_step() -> None:
    """From the audit trail; the last line holds the evidence."""
    text = printed(REPORT, width=130)
    assert text.index("gate passed") < text.index("182 s")
    (last,) = [line for line in text.splitlines() if "promote " in line]
    assert "144" in last and "1.34" in last and "people prefer the candidate" in last
