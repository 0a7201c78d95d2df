"""The recipe: defaults for real models, changes by TOML, errors that name the key."""

from pathlib import Path

import pytest

from core.errors import UsageError
from training.recipe import Recipe, load_recipe


def test_defaults_are_for_real_models() -> None:
    """LoRA 16/32, beta 0.1, one epoch, learning rates of 1e-4 and 1e-5, a judge of its own."""
    recipe = load_recipe("default")

    assert (recipe.lora.rank, recipe.lora.alpha) == (16, 32)
    assert (recipe.dpo.beta, recipe.dpo.learning_rate, recipe.dpo.epochs, recipe.dpo.nll_coef) == (0.1, 1e-5, 1, 0.0)
    assert (recipe.reward.head, recipe.reward.learning_rate, recipe.judge) == ("last", 1e-4, "own")


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    """Other tables of the file are not ours; a table without [recipe] is the default."""
    file = tmp_path / "demo.toml"
    file.write_text("[base_model]\nlayers = 2\n[recipe.dpo]\nbeta = 0.3\n")

    assert load_recipe(file) == Recipe.model_validate({"dpo": {"beta": 0.3}})
    file.write_text("[base_model]\nlayers = 2\n")
    assert load_recipe(file) == Recipe()


def test_a_resolved_recipe_is_read_back(tmp_path: Path) -> None:
    """The worker hands the trainers the run's resolved recipe as JSON."""
    recipe = Recipe.model_validate({"seed": 4, "judge": "reward"})
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())

    assert load_recipe(tmp_path / "recipe.json") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[recipe.dpo]\nbetta = 0.3", "recipe.dpo.betta"),
        ("[recipe]\nsead = 1", "recipe.sead"),
        ("[recipe.dpo]\nbeta = -1", "recipe.dpo.beta"),
        ('[recipe.reward]\nhead = "first"', "recipe.reward.head"),
        ("[recipe", "is not TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, message: str) -> None:
    """One line, with the key's whole name."""
    (tmp_path / "recipe.toml").write_text(text)

    with pytest.raises(UsageError, match=message):
        load_recipe(tmp_path / "recipe.toml")


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")


def test_the_demo_recipe_is_valid() -> None:
    """The demo's table loads, and differs from the defaults where a tiny base needs it."""
    recipe = load_recipe(Path(__file__).parents[2] / "lab" / "demo.toml")

    assert recipe.reward.head == "surprise"
    assert recipe.judge == "reward"
    assert recipe.dpo.nll_coef > 0
    assert recipe.dpo.learning_rate >= 100 * Recipe().dpo.learning_rate
