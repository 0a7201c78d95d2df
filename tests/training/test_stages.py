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
    assert commands["judge"][-4:] == ["--folds", "judge", "--set", "seed=4"]
    assert str(tmp_path / "adapters" / ADAPTER) in commands["evaluate"]
    assert str(round_.finished("judge")) in commands["evaluate"]
