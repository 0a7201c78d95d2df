"""python -m training.reward by hand: several members that survive a kill, votes of all kinds, an earlier model."""

import json
import random
import signal
import time
from pathlib import Path

import pytest

from core.adapters import BaseShapes
from core.errors import UsageError
from feedback import snapshot as snapshots
from tests import warm
from tests.training.examples import pair_row
from training import reward
from training.program import Skipped
from training.reward_card import RewardCard

SETTINGS = ["lora.rank=2", "precision=float32", "threads=1", "batch_rows=8", "head=mean", "learning_rate=1e-2"]
SETTINGS += ["head_learning_rate=1e-2", "min_reward_pairs=10", "reference_samples=32", "sampling.max_new_tokens=4"]


def command(base: Path, data: Path, out: Path, *more: str, previous: Path | None = None) -> list[str]:
    settings = [part for setting in [*SETTINGS, *more] for part in ("--set", setting)]
    settings += ["--previous", str(previous)] if previous is not None else []
    return ["--base", str(base), "--data", str(data), "--out", str(out), *settings]


def card_of(out: Path) -> RewardCard:
    return RewardCard.model_validate_json((out / "reward.json").read_text())


def write_votes(path: Path, count: int) -> Path:
    """Votes of all four kinds for answers that begin with w1."""
    rng = random.Random(0)
    with path.open("w") as stream:
        for number in range(count):
            prompt = f"w{20 + number % 70} w{number // 70}"
            good, fair, bad = (" ".join([first, f"w{rng.randrange(20, 90)}", "w9"]) for first in ("w1", "w2", "w3"))
            rows: list[dict[str, object]] = [
                {"chosen": good, "rejected": bad},
                {"completions": [good, fair, bad]},
                {"completion": good, "label": True} if number % 8 < 4 else {"completion": bad, "label": False},
                {"completion": good, "rating": 5} if number % 8 < 4 else {"completion": bad, "rating": 1},
            ]
            stream.write(json.dumps({"prompt": prompt} | rows[number % 4]) + "\n")
    return path


def write_snapshot(parent: Path, count: int, shapes: BaseShapes) -> Path:
    rows = [pair_row(number, chosen_version=number // 60) for number in range(count)]
    return snapshots.write(
        parent,
        pairs=rows,
        prompts=[],
        created=0.0,
        last_event="1-0",
        dropped={},
        live_version=0,
        base_sha256=shapes.sha256,
        tokenizer_sha256=shapes.tokenizer_sha256,
    ).directory


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_killed_in_the_second_member(qwen_directory: Path, tmp_path: Path) -> None:
    """Started again it keeps the first member, goes on with the second, and ends with the bytes of a run that nobody
    killed; only what belongs to the result is left."""
    data = write_votes(tmp_path / "votes.jsonl", 60)
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    more = ["members=2", "epochs=4", "checkpoint_s=0"]
    process = warm.start("training.reward", *command(qwen_directory, data, cut, *more))
    while lines(cut / "member-2" / "metrics.jsonl") < 3 and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (cut / "checkpoint.pt").exists()
    assert (cut / "member-2" / "checkpoint.pt").exists()

    for out in (cut, whole):
        reward.main(command(qwen_directory, data, out, *more))

    names = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    member = {"adapter_model.safetensors", "adapter_config.json", "head.safetensors", "points.safetensors"}
    member |= {"metrics.jsonl"}
    assert names == member | {f"member-2/{name}" for name in member} | {"reward.json", "votes.txt", "config.json"}
    for name in names:
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert {str(path.relative_to(cut)) for path in cut.rglob("*") if path.is_file()} == names


def test_votes_of_all_kinds(qwen_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The card counts them by kind, on both sides of the split, and names its members; comparisons alone make up the
    test accuracy."""
    data = write_votes(tmp_path / "votes.jsonl", 400)
    reward.main(command(qwen_directory, data, tmp_path / "out", "members=2", "epochs=1", "seed=5"))
    card = card_of(tmp_path / "out")
    tested = {name: found.votes for name, found in card.test["kind"].items()}

    assert card.rows.keys() == {"preference", "ranking", "thumb", "rating"}
    assert sum(card.rows.values()) + sum(tested.values()) == 400
    assert card.pairs == card.rows["preference"] + card.rows["ranking"]
    assert card.test_pairs == tested["preference"] + tested["ranking"]
    assert card.test_accuracy > 0.75
    assert {name for name in card.test["kind"] if card.test["kind"][name].accuracy > 0.6} == card.rows.keys()
    assert [member.seed for member in card.members] == [5, 6]
    assert card.mean == pytest.approx(sum(member.mean for member in card.members) / 2)
    assert card.spread > 0
    assert lines(tmp_path / "out" / "votes.txt") == 400
    said = f"The reward model predicts {card.test_accuracy:.3f} of {card.test_pairs} held-out votes."
    assert said in capsys.readouterr().out


def test_an_earlier_model_on_newer_votes(
    qwen_directory: Path, qwen_shapes: BaseShapes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only votes that its own snapshot did not hold, of every fold, and by the version that they are about."""
    older, newer = (write_snapshot(tmp_path, count, qwen_shapes) for count in (100, 160))
    first, second, again = (tmp_path / name for name in ("first", "second", "again"))
    reward.main(command(qwen_directory, older, first, "epochs=3"))
    reward.main(command(qwen_directory, newer, second, "epochs=3", previous=first))
    found = card_of(second).prequential

    assert card_of(first).prequential is None
    assert found.data == older.name
    assert found.overall.votes == 60
    assert found.overall.accuracy > 0.75
    assert {version: each.votes for version, each in found.slices["version"].items()} == {"1": 20, "2": 40}
    assert f"the previous model predicts {found.overall.accuracy:.3f} of 60 new votes" in capsys.readouterr().out

    reward.main(command(qwen_directory, older, again, "epochs=3", previous=first))
    assert card_of(again).prequential.overall is None
    (first / "votes.txt").unlink()
    with pytest.raises(UsageError, match="nobody knows which votes are new"):
        reward.main(command(qwen_directory, newer, tmp_path / "third", "epochs=1", previous=first))


def test_thumbs_that_are_all_alike_teach_nothing(qwen_directory: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"w{n}", "completion": f"w{n} w1", "label": True} for n in range(60)]
    (tmp_path / "thumbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(Skipped, match=r"0 usable votes prefer one answer; the recipe asks for 10; the .. thumbs"):
        reward.main(command(qwen_directory, tmp_path / "thumbs.jsonl", tmp_path / "out"))
