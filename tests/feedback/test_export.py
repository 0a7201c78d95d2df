"""Snapshots in other people's formats, as Hugging Face's `datasets` reads them."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.errors import UsageError
from feedback import snapshot
from feedback.export import FORMATS, export
from feedback.snapshot import DemonstrationRow, PairRow, PromptRow, RankingRow, RatingRow, Snapshot, ThumbRow
from plumbline.cli import app

PROMPT = '[{"role":"system","content":"Be brief."},{"role":"user","content":"Was ist ein „Hund“?\\u2028"}]'
MESSAGES = json.loads(PROMPT)
COMMON = {"created_at": 1.0, "cluster": "c", "prompt": PROMPT, "prompt_token_ids": [1], "weight": 0.5, "rater": "ab"}
PAIR = COMMON | {"comparison_id": "cmp_1", "chosen_token_ids": [70, 4], "rejected_token_ids": [71, 4]}
PAIR |= {"chosen_version": 3, "rejected_version": 2, "tie": False, "trains_policy": True}
ONE = COMMON | {"completion_id": "chatcmpl-1", "version": 3}
SAMPLED = ONE | {"completion_token_ids": [70, 4], "completion_text": "Ein Tier.", "fold": "optimize"}


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def pair(name: str, chosen: str, rejected: str, **given: object) -> PairRow:
    fields = PAIR | {"feedback_id": f"fb_{name}", "fold": "optimize", "chosen_text": chosen, "rejected_text": rejected}
    return PairRow(**(fields | given))


@pytest.fixture
def frozen(tmp_path: Path) -> Snapshot:
    """Rows of every table. Of the pairs one is a tie, one has an empty side, one equal sides, one tests."""
    pairs = [
        pair("p", "Ein Tier.", "Nein."),
        pair("q", "Ja.", "Nein.", tie=True),
        pair("r", "Ja.", " \n"),
        pair("s", "Ja.", "Ja. "),
        pair("t", "Ja.", "Nein.", fold="test"),
    ]
    thumbs = [
        ThumbRow(**SAMPLED, feedback_id="fb_u", up=False, trains_policy=True),
        ThumbRow(**(SAMPLED | {"completion_text": ""}), feedback_id="fb_v", up=True, trains_policy=True),
    ]
    ranking = {"comparison_id": "cmp_2", "versions": [3] * 3, "ranks": [1, 1, 2], "completion_texts": ["a", "b", "c"]}
    ids = {"completion_token_ids": [[70], [71], [72]]}
    return snapshot.write(
        tmp_path / "snapshots",
        pairs=pairs,
        thumbs=thumbs,
        rankings=[RankingRow(**COMMON, **ranking, **ids, feedback_id="fb_w", fold="judge")],
        ratings=[RatingRow(**SAMPLED, feedback_id="fb_x", stars=4)],
        demonstrations=[
            DemonstrationRow(**ONE, feedback_id="fb_y", text="Ein Haustier.", fold="optimize", trains_policy=True)
        ],
        prompts=[PromptRow(cluster="c", fold="optimize", prompt=PROMPT, prompt_token_ids=[1])],
        created=1.0,
        last_event="1-0",
        dropped={},
        live_version=0,
        base_sha256="b",
        tokenizer_sha256="t",
    )


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def loaded(path: Path, cache: Path) -> list[dict[str, object]]:
    """As `datasets.load_dataset` has it."""
    from datasets import load_dataset

    return list(load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache)))


ORIGIN = {"weight": 0.5, "fold": "optimize"}
EXPECTED = {
    "trl-preference": [
        {"prompt": MESSAGES, "chosen": answer("Ein Tier."), "rejected": answer("Nein."), "feedback_id": "fb_p"}
        | ORIGIN,
        {"prompt": MESSAGES, "chosen": answer("Ja."), "rejected": answer("Nein."), "feedback_id": "fb_t"}
        | (ORIGIN | {"fold": "test"}),
    ],
    "trl-kto": [
        {"prompt": MESSAGES, "completion": answer("Ein Tier."), "label": False, "feedback_id": "fb_u"} | ORIGIN,
    ],
    "trl-sft": [{"messages": MESSAGES + answer("Ein Haustier."), "feedback_id": "fb_y"} | ORIGIN],
    "openai-dpo": [
        {
            "input": {"messages": MESSAGES, "tools": [], "parallel_tool_calls": True},
            "preferred_output": answer(chosen),
            "non_preferred_output": answer("Nein."),
        }
        for chosen in ("Ein Tier.", "Ja.")
    ],
}


@pytest.mark.parametrize("form", EXPECTED)
def test_what_an_export_holds(frozen: Snapshot, tmp_path: Path, form: str) -> None:
    """Exactly the columns of the format, in the order of the votes; `datasets` finds the same in it."""
    out = tmp_path / "out.jsonl"
    export(frozen.directory, form, out)
    assert lines(out) == EXPECTED[form]
    assert loaded(out, tmp_path / "cache") == EXPECTED[form]


def test_what_cannot_be_said_in_a_format_is_counted(frozen: Snapshot, tmp_path: Path) -> None:
    """Ties, empty answers and pairs of equal texts are left out, of the folds that were asked for."""
    out = tmp_path / "out.jsonl"
    found = export(frozen.directory, "trl-preference", out)
    assert (found.rows, found.skipped) == (2, {"empty": 1, "identical": 1, "tie": 1})
    found = export(frozen.directory, "openai-dpo", out, folds=["test"])
    assert (found.rows, found.skipped) == (1, {})
    assert lines(out) == EXPECTED["openai-dpo"][1:]
    assert export(frozen.directory, "trl-kto", out).skipped == {"empty": 1}


def test_a_raw_export_is_the_snapshot(frozen: Snapshot, tmp_path: Path) -> None:
    """Every row of every table; and the snapshot's id can be computed from the lines alone."""
    out = tmp_path / "out.jsonl"
    found = export(frozen.directory, "raw", out)
    rows = loaded(out, tmp_path / "cache")
    digests = sorted(hashlib.sha256(f"{row['table']}\n{row['row']}".encode()).digest() for row in rows)
    assert (found.rows, found.skipped) == (len(rows), {}) == (11, {})
    assert hashlib.sha256(b"plumbline snapshot 3\n" + b"".join(digests)).hexdigest() == frozen.manifest.id
    assert json.loads(next(row["row"] for row in rows if row["table"] == "ratings"))["stars"] == 4


@pytest.mark.parametrize("form", FORMATS)
def test_a_changed_snapshot_is_not_exported(frozen: Snapshot, tmp_path: Path, form: str) -> None:
    """Nor is anything left of the attempt."""
    (frozen.directory / "prompts.parquet").write_bytes((frozen.directory / "pairs.parquet").read_bytes())
    with pytest.raises(UsageError):
        export(frozen.directory, form, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["snapshots"]


def test_a_directory_that_is_not_there(frozen: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        export(frozen.directory, "raw", tmp_path / "no" / "out.jsonl")


def test_the_command(frozen: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plumbline export` takes a directory or the beginning of an id, and `-` for standard output."""
    monkeypatch.setenv("ARTIFACTS_URL", str(tmp_path))
    out = tmp_path / "out.jsonl"
    runner = CliRunner()
    for name in (str(frozen.directory), frozen.manifest.id[:8]):
        done = runner.invoke(app, ["export", name, "--format", "trl-preference", "--out", str(out)])
        assert (done.exit_code, done.stderr) == (
            0,
            "2 rows; left out: 1 empty, 1 identical, 1 tie\n",
        )
        assert lines(out) == EXPECTED["trl-preference"]
    done = runner.invoke(app, ["export", frozen.manifest.id, "--format", "trl-sft", "--out", "-"])
    assert [json.loads(line) for line in done.stdout.splitlines()] == EXPECTED["trl-sft"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["00", "--format", "raw"], "0 snapshots begin with '00'"),
        (["", "--format", "raw"], "0 snapshots begin with ''"),
        (["ID", "--format", "csv"], "--format is trl-preference, trl-kto"),
        (["ID", "--format", "raw", "--fold", "train"], "--fold is optimize, judge, test"),
    ],
)
def test_wrong_arguments_are_one_line(
    frozen: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("ARTIFACTS_URL", str(tmp_path))
    given = [frozen.manifest.id if it == "ID" else it for it in arguments]
    done = CliRunner().invoke(app, ["export", *given, "--out", str(tmp_path / "out.jsonl")])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
