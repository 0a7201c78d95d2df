"""Programs that learn from samples of their own, and what sft and kto refuse."""

import json
from pathlib import Path

import pytest

from core.errors import UsageError
from feedback.snapshot import Snapshot
from tests.training.examples import REWARD, trainer_options
from tests.training.test_families import write_demonstrations, write_thumbs, write_votes
from training import dpo, kto, reward, sft
from training.program import AlreadyDone, Skipped

ENOUGH = ["min_policy_rows=8"]


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def facts(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "config.json").read_text())["facts"]
    return found


def test_dpo_on_its_own_answers(
    qwen_directory: Path, small_snapshot: Snapshot, optimized_reward: Path, tmp_path: Path
) -> None:
    """Only prompts of the optimize fold are answered; it starts at a margin of 0; again it has nothing to do."""
    given = [*trainer_options(qwen_directory, small_snapshot.directory, tmp_path, *ENOUGH, "epochs=2", "batch_rows=16")]
    given += ["--on-policy", "3", "--reward", str(optimized_reward)]
    dpo.main(given)

    asked = sum(row.fold == "optimize" for row in small_snapshot.prompts)
    assert facts(tmp_path)["prompts"] == asked
    assert len(metrics(tmp_path)) == 2 * -(-asked // 16)
    assert metrics(tmp_path)[0]["preference_loss"] == pytest.approx(0.6931, abs=1e-3)
    with pytest.raises(AlreadyDone):
        dpo.main(given)


def test_sft_on_the_best_of_its_own_answers(
    qwen_directory: Path, small_snapshot: Snapshot, optimized_reward: Path, tmp_path: Path
) -> None:
    """One demonstration a prompt of the optimize fold."""
    given = trainer_options(qwen_directory, small_snapshot.directory, tmp_path, *ENOUGH, "batch_rows=8")
    sft.main([*given, "--from-best-of", "4", "--reward", str(optimized_reward)])

    assert facts(tmp_path)["demonstrations"] == sum(row.fold == "optimize" for row in small_snapshot.prompts)


def test_a_reward_model_that_saw_the_judges_votes_is_refused(
    qwen_directory: Path, small_snapshot: Snapshot, tmp_path: Path
) -> None:
    """Else nothing would be left to judge the policy with."""
    data = small_snapshot.directory
    reward.main(trainer_options(qwen_directory, data, tmp_path / "reward", *REWARD))

    for program, flag in ((dpo, "--on-policy"), (sft, "--from-best-of")):
        with pytest.raises(UsageError, match=r"judge fold too.*--folds optimize"):
            given = trainer_options(qwen_directory, data, tmp_path / flag)
            program.main([*given, flag, "2", "--reward", str(tmp_path / "reward")])


def test_demonstrations_are_mixed_in(qwen_directory: Path, tmp_path: Path) -> None:
    """--mix-sft adds their NLL to every step of dpo and kto, and is part of what names the training."""
    mixed = ["--mix-sft", str(write_demonstrations(tmp_path / "d.jsonl"))]
    for program, write in ((dpo, write_votes), (kto, write_thumbs)):
        out = tmp_path / program.__name__
        given = trainer_options(qwen_directory, write(tmp_path / "rows.jsonl"), out, "batch_rows=16")
        program.main([*given, *mixed])
        assert all(step["mix_nll"] > 0 for step in metrics(out))
        with pytest.raises(UsageError, match="holds another training"):
            program.main(given)


@pytest.mark.parametrize(
    ("program", "more", "message"),
    [
        (dpo, ["--on-policy", "4"], "--on-policy and --reward go together"),
        (dpo, ["--on-policy", "1"], "1 is no number of two or more"),
        (sft, ["--reward", "REWARD"], "--from-best-of and --reward go together"),
        (dpo, ["--set", "loss=ipo", "--set", "label_smoothing=0.1"], "has no label_smoothing"),
        (dpo, ["--set", "kl_stop=3", "--set", "kl_samples=0"], "kl_stop needs kl_samples"),
    ],
)
def test_options_that_do_not_fit_together(
    program: object,
    more: list[str],
    message: str,
    qwen_directory: Path,
    small_snapshot: Snapshot,
    optimized_reward: Path,
) -> None:
    given = [str(optimized_reward) if part == "REWARD" else part for part in more]
    with pytest.raises(UsageError, match=message):
        program.main([*trainer_options(qwen_directory, small_snapshot.directory, Path("out")), *given])  # type: ignore[attr-defined]


def test_thumbs_that_teach_nothing_are_skipped(qwen_directory: Path, tmp_path: Path) -> None:
    """All of one kind, or too few for a batch."""
    rows = [json.loads(line) for line in write_thumbs(tmp_path / "t.jsonl").read_text().splitlines()]
    liked = tmp_path / "liked.jsonl"
    liked.write_text("".join(json.dumps(row | {"label": True}) + "\n" for row in rows))

    with pytest.raises(Skipped, match="every thumb points up"):
        kto.main(trainer_options(qwen_directory, liked, tmp_path / "out"))
    with pytest.raises(Skipped, match="40 usable thumbs; the recipe asks for 41"):
        kto.main(trainer_options(qwen_directory, tmp_path / "t.jsonl", tmp_path / "out", "min_policy_rows=41"))


@pytest.mark.parametrize(("program", "what"), [(kto, "thumbs"), (sft, "demonstrations")])
def test_a_snapshot_of_pairs_only_is_skipped(
    qwen_directory: Path, small_snapshot: Snapshot, tmp_path: Path, program: object, what: str
) -> None:
    with pytest.raises(Skipped, match=f"0 usable {what}"):
        program.main(trainer_options(qwen_directory, small_snapshot.directory, tmp_path / "out"))  # type: ignore[attr-defined]
