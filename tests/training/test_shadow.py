"""The judge of unseen answers: when it is rung for, and what it says with a real reward model over a tiny base."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import torch

from core import keys, registry, releases, shadow
from core.records import Choice, CompletionRecord
from core.releases import Release
from core.settings import Settings
from core.shadow import ShadowAnswer
from tests.core.shadows import compared
from tests.serving import policies
from training import shadow as judging
from training import worker
from training.data import Text
from training.model import load_base
from training.recipe import Recipe
from training.reward_model import load_reward_model

COUNT = 6


@pytest.fixture
def config(tmp_path: Path, redis_server: str, qwen_directory: Path) -> Settings:
    return Settings(home=tmp_path, redis_url=redis_server, broker_url="", base=str(qwen_directory))


@pytest.fixture
def release(redis_client: redis.Redis) -> Release:
    """Version 1, at the stage that nobody sees."""
    policies.initialise(redis_client, "sha-0")
    policies.publish(redis_client, "sha-1", stage=releases.SHADOW)
    return releases.release(redis_client, "rel_1")


@pytest.fixture
def run(redis_client: redis.Redis, config: Settings, release: Release, optimized_reward: Path) -> Path:
    """The directory of the run that made it, with a reward model and no judge of its own."""
    made = config.artifacts / "runs" / str(registry.policy(redis_client, release.version).run)
    shutil.copytree(optimized_reward, made / "reward")
    (made / "recipe.json").write_text(Recipe().model_dump_json())
    return made


def unseen(client: redis.Redis, number: int) -> tuple[list[int], list[int], list[int]]:
    """A chat and its like, as a replica leaves them: prompt, the candidate's answer, the incumbent's."""
    prompt, ours, theirs = [40 + number, 41], [50 + number, 51, 3], [60, 61 + number, 62, 3]
    record = CompletionRecord(
        id=f"chatcmpl-{number}",
        state="complete",
        created=1.0,
        prompt_token_ids=prompt,
        choices=[Choice(index=0, text="", token_ids=theirs)],
        policy_version=0,
        adapter_sha256="sha-0",
        assignment="live",
    )
    answer = ShadowAnswer(release="rel_1", token_ids=ours)
    fields = {"record": record.to_json(), "state": "complete", "shadow": answer.to_json()}
    client.hset(keys.completion(record.id), mapping=fields)
    client.sadd(keys.shadow_waiting("rel_1"), record.id)
    return prompt, ours, theirs


def test_the_runs_own_model_compares(redis_client, redis_server, config, run, qwen_directory):
    """As the worker's task does it: counts, means and lengths are those of the reward model asked directly."""
    said = [unseen(redis_client, number) for number in range(COUNT)]
    where = {"REDIS_URL": redis_server, "PLUMBLINE_HOME": str(config.home), "PLUMBLINE_BASE": str(qwen_directory)}
    command = [sys.executable, "-c", "from training.worker import judge_shadow; judge_shadow('rel_1')"]
    subprocess.run(command, check=True, env=os.environ | where, timeout=180)

    found = shadow.load(redis_client, "rel_1")
    assert (found.error, found.judge, found.compared, found.waiting) == ("", "reward", COUNT, 0)
    model, _ = load_reward_model(load_base(qwen_directory, base_sha256=card_base(run)), run / "reward")
    ours, theirs = (
        model.score([Text(prompt=prompt, completion=sides[side]) for prompt, *sides in said]) for side in (0, 1)
    )
    assert (found.wins, found.losses) == (int((ours > theirs).sum()), int((ours < theirs).sum()))
    assert [found.candidate_reward, found.incumbent_reward] == pytest.approx(
        [ours.mean().item(), theirs.mean().item()], abs=1e-4
    )
    assert (found.candidate_tokens, found.incumbent_tokens) == (3.0, 4.0)
    assert not any(redis_client.hexists(keys.completion(f"chatcmpl-{number}"), "shadow") for number in range(COUNT))
    assert sorted(path.name for path in run.iterdir()) == ["recipe.json", "reward", "shadow.log"]
    assert "51" not in (run / "shadow.log").read_text()
    assert not torch.isnan(ours).any()


def card_base(run: Path) -> str:
    return str(json.loads((run / "reward" / "reward.json").read_text())["base_sha256"])


def test_its_own_judge_comes_before_its_reward_model(run, config):
    """Where the recipe has one: it saw nothing that the candidate was made from."""
    assert judging.judge_of(run).name == "reward"
    (run / "judge").mkdir()
    assert judging.command(config, run, "rel_1")[6] == run / "judge"


def test_without_a_judge_the_release_says_so(redis_client, config, release):
    """The run's directory is on another machine, or was deleted with somebody's data: nobody waits for it."""
    unseen(redis_client, 1)
    judging.carry_out(redis_client, config, "rel_1")
    found = shadow.load(redis_client, "rel_1")
    assert found.error.startswith("the run that made version 1 has left no judge here")
    assert not judging.may_ring(redis_client, release)


def test_a_crash_is_told(redis_client, config, run):
    """The program's last words are the reason."""
    (run / "reward" / "reward.json").unlink()
    judging.carry_out(redis_client, config, "rel_1")
    assert "reward.json is missing" in shadow.load(redis_client, "rel_1").error


def test_it_is_rung_for_when_it_is_worth_it(redis_client, release):
    """Fifty wait, or those that are still missing, or any after ten minutes; and not again for two minutes."""

    def rings(**changes: float) -> bool:
        redis_client.delete(keys.shadow_rung("rel_1"))
        return judging.may_ring(redis_client, release.model_copy(update=changes))

    for number in range(judging.BATCH - 1):
        redis_client.sadd(keys.shadow_waiting("rel_1"), f"chatcmpl-{number}")
    assert not rings()
    assert rings(staged=release.staged - judging.PATIENCE_S - 1)
    assert rings(share=0.01)
    redis_client.sadd(keys.shadow_waiting("rel_1"), "chatcmpl-last")
    assert rings()
    assert not judging.may_ring(redis_client, release)
    assert 0 < redis_client.ttl(keys.shadow_rung("rel_1")) <= judging.RUNG_S

    redis_client.delete(keys.shadow_waiting("rel_1"))
    assert not rings(staged=0.0)
    compared(redis_client, "rel_1", win=shadow.WANTED - 1)
    redis_client.sadd(keys.shadow_waiting("rel_1"), "chatcmpl-1")
    assert rings()


def test_the_doorbell_names_the_release(redis_client, config):
    """In the queue of the trainers."""
    worker.ring_for_shadow("rel_1", config)
    (message,) = redis_client.lrange(keys.BROKER_PREFIX + keys.TRAIN_QUEUE, 0, -1)
    assert json.loads(message)["headers"]["task"] == "plumbline.shadow"
    assert worker.judge_shadow.name in worker.app.tasks
