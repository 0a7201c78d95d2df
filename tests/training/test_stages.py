"""The stages of a round: their order, and command lines that fit the programs."""

import importlib.util
import json

from training import runs, stages
from training.recipe import Recipe
from training.stages import Round

ADAPTER = "ad" * 32


def test_stages_follow_the_recipe(tmp_path):
    """A judge of its own is trained only where the recipe asks for one; every program is one that exists."""
    run = runs.planned(snapshot="s", parent=0, recipe=Recipe(judge="own", seed=3).model_dump_json(), last_vote=1.0)
    names = ["reward", "judge", "candidate", "publish", "evaluate"]
    assert [stage.name for stage in stages.stages_of(run)] == names
    shared = run.model_copy(update={"recipe": Recipe(judge="reward").model_dump_json()})
    assert [stage.name for stage in stages.stages_of(shared)] == [*names[:1], *names[2:]]

    round_ = Round(run=run, base=tmp_path, artifacts=tmp_path, parent=tmp_path / "p", serving_dtype="bfloat16")
    published = round_.finished("publish")
    published.mkdir(parents=True)
    (published / "result.json").write_text(json.dumps({"adapter_sha256": ADAPTER}))
    commands = {
        stage.name: [str(it) for it in stage.command(round_, tmp_path / "o")] for stage in stages.stages_of(run)
    }
    programs = {name: command[2] for name, command in commands.items()}
    assert programs == {
        "reward": "training.reward",
        "judge": "training.reward",
        "candidate": "training.dpo",
        "publish": "training.publish",
        "evaluate": "training.evaluate",
    }
    assert all(importlib.util.find_spec(program) for program in programs.values())
    advice = [str(it) for it in stages.CHOICE.command(round_, tmp_path / "o")]
    assert importlib.util.find_spec(advice[2])
    assert advice[-6:] == ["--reward", str(round_.finished("reward")), "--version", "0", "--out", str(tmp_path / "o")]
    assert commands["judge"][-4:] == ["--folds", "judge", "--set", "seed=4"]
    assert str(tmp_path / "adapters" / ADAPTER) in commands["evaluate"]
    assert str(round_.finished("judge")) in commands["evaluate"]
    watched = ["--reward", str(round_.finished("reward")), "--steps", str(round_.steps)]
    assert commands["evaluate"][-4:] == watched


def test_ppo_never_optimizes_its_judge(tmp_path):
    """The reward model that PPO climbs sees the optimize fold only, the judge the judge fold only, and the candidate
    is trained with the one and evaluated by the other."""
    recipe = Recipe(method="ppo", judge="own", seed=3)
    run = runs.planned(snapshot="s", parent=0, recipe=recipe.model_dump_json(), last_vote=1.0)
    round_ = Round(run=run, base=tmp_path, artifacts=tmp_path, parent=tmp_path / "p", serving_dtype="bfloat16")
    commands = {
        stage.name: [str(it) for it in stage.command(round_, tmp_path / "o")]
        for stage in stages.stages_of(run)
        if stage.name in ("reward", "judge", "candidate")
    }

    assert run.method == "ppo"
    assert commands["reward"][-2:] == ["--folds", "optimize"]
    assert commands["judge"][-4:] == ["--folds", "judge", "--set", "seed=4"]
    assert commands["judge"].count("--folds") == 1
    assert commands["candidate"][2] == "training.ppo"
    assert commands["candidate"][-4:-2] == ["--reward", str(round_.finished("reward"))]


def test_the_last_rounds_reward_model_is_tested_on_new_votes(tmp_path):
    """Where the run that made the parent left one; the judge is another model and says nothing of it."""
    run = runs.planned(snapshot="s", parent=1, recipe=Recipe(judge="own").model_dump_json(), last_vote=1.0)
    given = {"run": run, "base": tmp_path, "artifacts": tmp_path, "parent": tmp_path, "serving_dtype": "float32"}
    reward, judge, *_ = stages.stages_of(run)
    earlier = tmp_path / "runs" / "first" / "reward"
    round_ = Round(**given, previous_reward=earlier)

    assert "--previous" not in reward.command(Round(**given), tmp_path)
    assert reward.command(round_, tmp_path)[-2:] == ["--previous", earlier]
    assert "--previous" not in judge.command(round_, tmp_path)
