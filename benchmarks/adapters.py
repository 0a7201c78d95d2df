"""python -m benchmarks.adapters SHAPE BASE ARTIFACTS COUNT: a model, and adapters as a training round publishes them.

Random LoRA on every linear layer, each with the probe that a replica must reproduce; the first is version 0, all zero.
Prints their hashes. A program of its own, so that torch is gone before anything is measured.
"""

import sys
from pathlib import Path

import torch

from benchmarks import models
from core.adapters import MANIFEST, adapter_sha256, base_shapes
from core.records import AdapterManifest
from training import probe
from training.data import Text
from training.model import SharedBase, load_base
from training.recipe import LoraRecipe

_ROLE = "drawn"
_SIZE = 0.02
"""Standard deviation of B: the change shows in every token's log-prob, and the model stays a model."""
_TEXTS, _PROMPT, _COMPLETION = 10, 16, 56
"""10 × 56 completion tokens: what a probe of a real round holds, in answers of usual length."""


def publish(base_directory: Path, artifacts: Path, count: int) -> list[str]:
    """Writes `artifacts/adapters/{sha256}` for each and returns the hashes."""
    shapes = base_shapes(base_directory)
    generator, published = torch.Generator().manual_seed(0), []
    base = load_base(base_directory, base_sha256=shapes.sha256)
    base.add_fresh(_ROLE, LoraRecipe(), seed=0)
    texts = [_text(generator, vocabulary=base.model.config.vocab_size) for _ in range(_TEXTS)]
    for number in range(count):
        fresh = artifacts / "adapters" / f".fresh.{number}"
        _draw(base, generator, zero=number == 0)
        base.save(_ROLE, fresh)
        manifest = AdapterManifest(
            sha256=adapter_sha256(fresh),
            base_sha256=shapes.sha256,
            tokenizer_sha256=shapes.tokenizer_sha256,
            rank=LoraRecipe().rank,
            serving_dtype="float32",
            probe=probe.choose(texts, probe.completion_logprobs(base, _ROLE, texts), None),
        )
        (fresh / MANIFEST).write_text(manifest.to_json() + "\n")
        fresh.rename(artifacts / "adapters" / manifest.sha256)
        published.append(manifest.sha256)
    return published


def _draw(base: SharedBase, generator: torch.Generator, *, zero: bool) -> None:
    for name, parameter in base.parameters(_ROLE).items():
        if ".lora_B." in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * (0.0 if zero else _SIZE)


def _text(generator: torch.Generator, *, vocabulary: int) -> Text:
    tokens = torch.randint(8, vocabulary, (_PROMPT + _COMPLETION,), generator=generator).tolist()
    return Text(prompt=tokens[:_PROMPT], completion=tokens[_PROMPT:])


if __name__ == "__main__":
    shape, base_directory, artifacts, count = sys.argv[1:]
    models.write(Path(base_directory), shape)
    print(*publish(Path(base_directory), Path(artifacts), int(count)))
