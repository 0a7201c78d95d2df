"""The recipe: every number that the trainers and the gate take, in one frozen object.

The defaults are for real models (training notes §2.5). The demo's tiny base needs learning rates a hundred times
higher; its values are the table `[recipe]` of lab/demo.toml. Not here: paths and devices, which belong to a command.
"""

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import UsageError


class Table(BaseModel):
    """A table of the recipe: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraRecipe(Table):
    """LoRA on every linear layer but the LM head, without dropout (a dropout of zero is part of the DPO identity)."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)


class OptimizerRecipe(Table):
    """AdamW with linear warm-up, then linear decay to `final_rate` of the peak."""

    learning_rate: float = Field(1e-4, gt=0)
    epochs: int = Field(1, ge=1)
    batch_rows: int = Field(32, ge=1)
    """Rows (pairs, thumbs or demonstrations) in one optimizer step."""
    weight_decay: float = Field(0.0, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps."""
    final_rate: float = Field(0.1, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    """Largest norm of the whole gradient."""


class RewardRecipe(OptimizerRecipe):
    """Bradley–Terry reward model: LoRA and a scalar head over the frozen base, fresh in each round."""

    batch_rows: int = Field(64, ge=1)
    head: Literal["last", "mean", "surprise"] = "last"
    """How token states become one score (training/reward_model.py)."""
    head_learning_rate: float = Field(1e-4, gt=0)
    centering: float = Field(0.01, ge=0)
    """Weight of (r_chosen + r_rejected)²: pins the otherwise free offset of the scores."""
    reference_samples: int = Field(256, ge=32)
    """Completions of the base on which scores get mean 0 and sd 1."""


class DpoRecipe(OptimizerRecipe):
    """DPO (Rafailov et al. 2023, eq. 7), with cDPO label smoothing and an SFT term on the chosen completion."""

    learning_rate: float = Field(1e-5, gt=0)
    beta: float = Field(0.1, gt=0)
    """KL strength."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    nll_coef: float = Field(0.0, ge=0)
    """Weight of the mean token NLL of chosen completions; keeps a small base fluent."""


class SamplingRecipe(Table):
    """Completions at temperature 1, the distribution that DPO and the KL are about."""

    max_new_tokens: int = Field(512, ge=1)
    batch_size: int = Field(64, ge=1)


class EvaluateRecipe(Table):
    """What is measured before the gate."""

    prompts: int = Field(500, ge=1)
    """Most prompts that are used; they come from the judge and test folds."""
    completions: int = Field(1000, ge=1)
    """At least so many of each policy: several per prompt where there are fewer prompts."""
    kl_samples: int = Field(256, ge=1)
    resamples: int = Field(2000, ge=100)
    """Of the bootstrap over prompts."""


class GateBounds(Table):
    """What a candidate must keep to (design §6)."""

    min_prompts: int = 200
    min_completions: int = 1000
    min_kl_samples: int = 256
    min_judge_rows: int = 40
    """Held-out votes below which the judge's accuracy is unknown."""
    judge_accuracy_low: float = 0.5
    win_rate_low: float = 0.5
    kl_to_parent: float = 5.0
    """Nats a completion."""
    kl_to_base: float = 12.0
    kl_per_token: float = 0.5
    length_ratio_low: float = 0.7
    length_ratio_high: float = 1.4
    end_of_text_drop: float = 0.02
    """How much smaller the share of completions that end by themselves may get."""
    degenerate_rise: float = 0.01


class Recipe(Table):
    """All of it, e.g. `Recipe(seed=1, dpo=DpoRecipe(beta=0.3))`."""

    method: Literal["dpo"] = "dpo"
    seed: int = 0
    threads: int | None = Field(None, ge=1)
    """Threads of torch; None leaves it to OMP_NUM_THREADS."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products in training; adapters, losses and log-prob sums are float32 always. `auto` is bfloat16 where
    the device has units for it, float32 elsewhere: a CPU without them is five times slower in bfloat16."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """`eager` is faster for short sequences on CPU (training only)."""
    max_length: int = Field(2048, ge=8)
    """Longest prompt + completion; longer rows are dropped and counted, never cut."""
    micro_batch_tokens: int = Field(16384, ge=1)
    """Padded tokens in one forward pass."""
    checkpoint_s: float = Field(60.0, ge=0)
    """How often a training can be killed without losing more than this, in seconds."""
    min_reward_pairs: int = Field(32, ge=1)
    """Fewer votes with a preference than this: no reward model, the run is skipped."""
    min_policy_rows: int = Field(32, ge=1)
    """Fewer policy rows than this: the run is skipped."""
    judge: Literal["own", "reward"] = "own"
    """Who judges at the gate: a second reward model trained on the judge fold only (`own`), or the reward model that
    was trained on every valid vote (`reward`). The latter is honest only because DPO never optimizes a reward model."""
    lora: LoraRecipe = LoraRecipe()
    reward: RewardRecipe = RewardRecipe()
    dpo: DpoRecipe = DpoRecipe()
    sampling: SamplingRecipe = SamplingRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()
    gate: GateBounds = GateBounds()


PRESETS = {"default": None, "demo": Path(__file__).parents[1] / "lab" / "demo.toml"}
"""Named recipes: for real models, and for a base of half a million parameters."""


def load_recipe(source: str | Path) -> Recipe:
    """A preset, a TOML file whose table `[recipe]` changes the defaults, or a JSON file that holds a whole recipe.

    Raises:
        UsageError: the file cannot be read, or a key or value cannot work; names the key.
    """
    path = PRESETS.get(str(source), Path(source))
    if path is None:
        return Recipe()
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text).get("recipe", {})
    except OSError as error:
        raise UsageError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"The recipe {path} is not {path.suffix[1:].upper()}: {error}.") from None
    return _validated(document, where=str(path))


def with_settings(recipe: Recipe, settings: Iterable[str], *, table: str) -> Recipe:
    """The recipe with some values replaced.

    Args:
        settings: e.g. `beta=0.2`, `lora.rank=8`; a bare name is looked up in `table` first.

    Raises:
        UsageError: no such key, or a value that cannot work.
    """
    document = recipe.model_dump()
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set takes NAME=VALUE, e.g. --set beta=0.2; this is {setting!r}.")
        *tables, key = name.strip().split(".")
        if not tables and key in document.get(table, {}):
            tables = [table]
        place = document
        for part in tables:
            place = place.get(part, {})
        if key not in place:
            raise UsageError(f"--set {name}: the recipe has no such key.")
        place[key] = _value(value.strip())
    return _validated(document, where="--set")


def _value(text: str) -> object:
    """As in TOML; a word that is nothing else is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return None if text == "none" else text


def _validated(document: object, *, where: str) -> Recipe:
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["recipe", *(str(part) for part in first["loc"])])
        raise UsageError(f"{where}: {key}: {first['msg']}.") from None
