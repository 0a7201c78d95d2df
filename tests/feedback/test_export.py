"""Snapshots in other people's formats, as Hugging Face's `datasets` reads them."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.errors import UsageError
from feedback.export import FORMATS, export
from feedback.snapshot import Snapshot
from plumbline.cli import app
from tests.feedback.frozen import EXPECTED, freeze


@pytest.fixture
def frozen(tmp_path: Path) -> Snapshot:
    return freeze(tmp_path)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def loaded(path: Path, cache: Path) -> list[dict[str, object]]:
    """As `datasets.load_dataset` has it."""
    from datasets import load_dataset

    return list(load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache)))


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


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "events"])
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
    """`plumbline export` takes a directory, the beginning of an id or `latest`, and `-` for standard output."""
    monkeypatch.setenv("ARTIFACTS_URL", str(tmp_path))
    out = tmp_path / "out.jsonl"
    runner = CliRunner()
    for name in (str(frozen.directory), frozen.manifest.id[:8], "latest"):
        done = runner.invoke(app, ["export", name, "--format", "trl-preference", "--out", str(out)])
        assert (done.exit_code, done.stderr) == (
            0,
            "2 rows; left out: 1 empty, 1 identical, 1 tie\n",
        ), done.exception
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
        (["ID", "--format", "events", "--fold", "test"], "leave --fold out"),
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
