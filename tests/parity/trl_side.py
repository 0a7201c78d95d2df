"""TRL's trainers on the rows, the order and the start that ours have.

They are used as they are, but for three things: rows come as token ids instead of text, they are not shuffled, and the
adapter (and head) start from given numbers. Its losses and its first gradient are written down as it goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, Trainer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from core.adapters import WEIGHTS
from training.data import Pair, Thumb
from training.recipe import LoraRecipe
from training.reward_model import HEAD

PADDING = "w90"
"""A token that stands in no row: TRL's reward trainer finds the last token by looking for padding (training notes §3,
trap 1), so end-of-text, which is our models' padding, would cost it the last token of every row."""
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """What a training did."""

    losses: list[float]
    """Before each optimizer step."""
    gradient: dict[str, Tensor]
    """Of the first step, unclipped, by the adapter file's names."""


def dpo(directory: Path, start: Path, pairs: Sequence[Pair], lora: LoraRecipe, **settings: Any) -> Curve:
    rows = [
        {"prompt_ids": p.chosen.prompt, "chosen_ids": p.chosen.completion, "rejected_ids": p.rejected.completion}
        for p in pairs
    ]
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    return _train(DPOTrainer, DPOConfig, model, directory, start, rows, lora, settings)


def kto(
    directory: Path, start: Path, thumbs: Sequence[Thumb], lora: LoraRecipe, *, batch: int, **settings: Any
) -> Curve:
    """The mismatched completions are those of the row before, within each batch of `batch`, as its own preparation of
    text does it."""
    rows = []
    for first in range(0, len(thumbs), batch):
        step = thumbs[first : first + batch]
        rows += [
            {
                "prompt_ids": thumb.text.prompt,
                "completion_ids": thumb.text.completion,
                "KL_completion_ids": step[i - 1].text.completion,
                "label": thumb.up,
            }
            for i, thumb in enumerate(step)
        ]
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    settings["per_device_train_batch_size"] = batch
    return _train(KTOTrainer, KTOConfig, model, directory, start, rows, lora, settings)


def reward(directory: Path, start: Path, pairs: Sequence[Pair], lora: LoraRecipe, **settings: Any) -> Curve:
    rows = [
        {"chosen_ids": p.chosen.prompt + p.chosen.completion, "rejected_ids": p.rejected.prompt + p.rejected.completion}
        | ({"margin": p.margin} if p.margin else {})
        for p in pairs
    ]
    model = AutoModelForSequenceClassification.from_pretrained(
        directory, num_labels=1, dtype=torch.float32, attn_implementation="eager"
    )
    return _train(RewardTrainer, RewardConfig, model, directory, start, rows, lora, settings)


def _train(
    trainer: type[Trainer],
    config: type[Any],
    model: Any,
    directory: Path,
    start: Path,
    rows: list[dict[str, Any]],
    lora: LoraRecipe,
    settings: Mapping[str, Any],
) -> Curve:
    """One epoch over the rows as they stand."""
    losses: list[float] = []
    gradient: dict[str, Tensor] = {}

    class Observed(trainer):
        def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
            return dataset

        def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def training_step(self, model: Any, *arguments: Any, **named: Any) -> Tensor:
            loss = super().training_step(model, *arguments, **named)
            losses.append(loss.item())
            if not gradient:
                gradient.update(_gradient(model))
            return loss

    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.pad_token = PADDING
    model.config.pad_token_id = tokenizer.pad_token_id
    head = {"task_type": "SEQ_CLS", "modules_to_save": ["score"]} if trainer is RewardTrainer else {}
    observed = Observed(
        model=model,
        args=config(
            output_dir=str(start / "trl"),
            num_train_epochs=1,
            max_length=None,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=_TARGETS, **head),
    )
    _start_from(observed.model, start)
    observed.train()
    return Curve(losses=losses, gradient=gradient)


def _start_from(model: Any, start: Path) -> None:
    tensors = load_file(start / WEIGHTS)
    if (start / HEAD).exists():
        tensors["base_model.model.score.weight"] = load_file(start / HEAD)["linear.weight"]
    found = set_peft_model_state_dict(model, tensors)
    assert not found.unexpected_keys, found.unexpected_keys


def _gradient(model: Any) -> dict[str, Tensor]:
    """By the names that an adapter file has."""
    return {
        name.replace(".default", "").replace("score.modules_to_save", "score"): parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
