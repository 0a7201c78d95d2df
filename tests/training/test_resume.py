"""A trainer killed with SIGKILL: the same command goes on and ends with the same bytes."""

import json
import signal
import time
from pathlib import Path

import pytest

from core.errors import UsageError
from tests import warm
from tests.training.test_families import write_votes
from training import dpo
from training.program import AlreadyDone

SETTINGS = ["lora.rank=2", "precision=float32", "threads=1", "checkpoint_s=0", "batch_rows=8", "epochs=12"]
STEPS = 60


def command(base: Path, data: Path, out: Path, *more: str) -> list[str]:
    settings = [part for setting in [*SETTINGS, *more] for part in ("--set", setting)]
    return ["--base", str(base), "--data", str(data), "--out", str(out), *settings]


def lines(out: Path) -> int:
    path = out / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_killed_and_started_again(qwen_directory: Path, tmp_path: Path) -> None:
    """The adapter and the metrics of a run that nobody killed; a third run has nothing to do; another setting is
    refused."""
    data = write_votes(tmp_path / "votes.jsonl")
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    process = warm.start("training.dpo", *command(qwen_directory, data, cut))
    while lines(cut) < 5 and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 5 <= lines(cut) < STEPS
    assert (cut / "checkpoint.pt").exists()
    assert not (cut / "config.json").exists()

    with pytest.raises(UsageError, match="choose another --out, or delete"):
        dpo.main(command(qwen_directory, data, cut, "beta=0.2"))
    for out in (cut, whole):
        dpo.main(command(qwen_directory, data, out))

    for name in ("adapter_model.safetensors", "adapter_config.json", "metrics.jsonl", "config.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert lines(cut) == STEPS
    assert json.loads((cut / "config.json").read_text())["recipe"]["dpo"]["epochs"] == 12
    assert not (cut / "checkpoint.pt").exists()
    with pytest.raises(AlreadyDone):
        dpo.main(command(qwen_directory, data, cut))
    with pytest.raises(UsageError, match="holds another training"):
        dpo.main(command(qwen_directory, data, cut, "beta=0.2"))
