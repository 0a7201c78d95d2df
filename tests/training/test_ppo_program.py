"""`plumbline train ppo` on a tiny model: what it may read, what it refuses, and that a killed one goes on."""

import json
import signal
import time
from pathlib import Path

import pytest

from core.errors import UsageError
from feedback.snapshot import Snapshot
from tests import warm
from tests.training.examples import REWARD, trainer_options
from training import ppo, reward
from training.ppo_fit import ROLLOUTS
from training.program import AlreadyDone, Skipped

PPO = ["rollouts=16", "batch_rows=8", "iterations=12", "learning_rate=0.01", "min_policy_rows=8"]


def lines(out: Path) -> int:
    path = out / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_killed_and_started_again(
    qwen_directory: Path, small_snapshot: Snapshot, optimized_reward: Path, tmp_path: Path
) -> None:
    """Killed within an iteration, with its rollouts on disk, it ends with the bytes of a run that nobody killed; every
    prompt that it answered is of the optimize fold."""
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    given = ["--reward", str(optimized_reward)]
    options = trainer_options(qwen_directory, small_snapshot.directory, cut, *PPO)
    process = warm.start("training.ppo", *options, *given)
    while lines(cut) < 6 and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 6 <= lines(cut) < 48
    stored = json.loads((cut / ROLLOUTS).read_text())["rollouts"]
    allowed = {tuple(row.prompt_token_ids) for row in small_snapshot.prompts if row.fold == "optimize"}
    assert len(stored) == 16
    assert {tuple(rollout["text"]["prompt"]) for rollout in stored} <= allowed

    for out in (cut, whole):
        ppo.main([*trainer_options(qwen_directory, small_snapshot.directory, out, *PPO), *given])
    for name in ("adapter_model.safetensors", "adapter_config.json", "metrics.jsonl", "config.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert lines(cut) == 48
    assert not (cut / ROLLOUTS).exists()
    assert not (cut / "checkpoint.pt").exists()
    with pytest.raises(AlreadyDone):
        ppo.main([*trainer_options(qwen_directory, small_snapshot.directory, cut, *PPO), *given])


def test_a_reward_model_that_saw_the_judges_votes_is_refused(
    qwen_directory: Path, small_snapshot: Snapshot, tmp_path: Path
) -> None:
    """Else nothing would be left to judge the policy with."""
    data = small_snapshot.directory
    reward.main(trainer_options(qwen_directory, data, tmp_path / "reward", *REWARD))

    with pytest.raises(UsageError, match=r"judge fold too.*--folds optimize"):
        ppo.main([*trainer_options(qwen_directory, data, tmp_path / "o", *PPO), "--reward", str(tmp_path / "reward")])


def test_a_file_of_prompts(qwen_directory: Path, optimized_reward: Path, tmp_path: Path) -> None:
    """Without the service: prompts as text, an adapter and one line of metrics a step; too few prompts are skipped."""
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"w1 w{number}"}) + "\n" for number in range(10)))
    given = ["--reward", str(optimized_reward)]
    few = [*PPO, "iterations=2", "advantage=rloo", "group=4"]
    ppo.main([*trainer_options(qwen_directory, data, tmp_path / "out", *few), *given])

    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert lines(tmp_path / "out") == 8
    with pytest.raises(Skipped, match="10 usable prompts; the recipe asks for 11"):
        ppo.main([*trainer_options(qwen_directory, data, tmp_path / "few", *few, "min_policy_rows=11"), *given])
