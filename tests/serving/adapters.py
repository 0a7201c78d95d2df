"""Adapters for the tests: PEFT directories with a true manifest, written without PEFT, scored by transformers."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from core.adapters import CONFIG, MANIFEST, WEIGHTS, adapter_sha256, base_shapes
from core.records import AdapterManifest, ProbeSequence

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Module name to (A (rank, in), B (out, rank)); the LoRA scale is 1."""

RANK = 4
_PROBE = [[1, 40, 41, 42, 43, 3, 2, 50, 51, 52, 53, 54], [1, 60, 61, 3, 2, 70, 71, 72, 73, 74, 75, 76]]
_START = 5


def zeros(base: Path, kinds: tuple[str, ...] = ("v_proj", "o_proj"), *, rank: int = RANK) -> Pairs:
    """The adapter that changes nothing: B is zero."""
    generator = torch.Generator().manual_seed(1)
    modules = {name: shape for name, shape in base_shapes(base).weights.items() if name.rsplit(".", 1)[-1] in kinds}
    return {
        name: (torch.randn(rank, columns, generator=generator) * 0.1, torch.zeros(rows, rank))
        for name, (rows, columns) in modules.items()
    }


def small(base: Path, *, seed: int, size: float = 0.05) -> Pairs:
    """A random change of every layer, as training makes."""
    generator = torch.Generator().manual_seed(seed)
    pairs = zeros(base, ("o_proj", "down_proj"))
    return {name: (a, torch.randn(b.shape, generator=generator) * size) for name, (a, b) in pairs.items()}


def marker(base: Path, token: int) -> Pairs:
    """Makes every next token `token`: the last layer's attention copies the constant channel 0 (see tiny.py) and turns
    it into a large step along the token's own embedding."""
    pairs = zeros(base)
    last = max(name for name in pairs if name.endswith("v_proj")).removesuffix("v_proj")
    value_a, value_b = (torch.zeros_like(part) for part in pairs[last + "v_proj"])
    value_a[0, 0], value_b[0, 0] = 1.0, 5.0
    output_a, output_b = (torch.zeros_like(part) for part in pairs[last + "o_proj"])
    output_a[0, 0] = 1.0
    output_b[:, 0] = 50.0 * _embedding(base)[token]
    return pairs | {last + "v_proj": (value_a, value_b), last + "o_proj": (output_a, output_b)}


def publish(
    artifacts: Path, base: Path, pairs: Pairs, *, scored: Pairs | None = None, parent: Pairs | None = None
) -> str:
    """Writes `artifacts/adapters/{sha256}` with a probe and returns the sha256.

    `scored`: the adapter that the probe was computed from, where a test wants it to be another one than is published.
    """
    fresh = artifacts / "adapters" / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    write(fresh, pairs)
    sha256 = adapter_sha256(fresh)
    shapes = base_shapes(base)
    logprobs = score(base, pairs if scored is None else scored)
    parents = score(base, parent) if parent is not None else [None] * len(_PROBE)
    probe = [
        ProbeSequence(token_ids=tokens, start=_START, logprobs=own, parent_logprobs=others)
        for tokens, own, others in zip(_PROBE, logprobs, parents, strict=True)
    ]
    manifest = AdapterManifest(
        sha256=sha256,
        base_sha256=shapes.sha256,
        tokenizer_sha256=shapes.tokenizer_sha256,
        rank=next(iter(pairs.values()))[0].shape[0],
        serving_dtype="float32",
        probe=probe,
    )
    (fresh / MANIFEST).write_text(manifest.to_json())
    final = artifacts / "adapters" / sha256
    shutil.rmtree(final, ignore_errors=True)
    fresh.rename(final)
    return sha256


def write(directory: Path, pairs: Pairs) -> None:
    """PEFT's two files, without a manifest."""
    directory.mkdir(parents=True)
    rank = next(iter(pairs.values()))[0].shape[0]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none"}
    config["target_modules"] = sorted({name.rsplit(".", 1)[-1] for name in pairs})
    (directory / CONFIG).write_text(json.dumps(config))
    tensors = {}
    for name, (a, b) in pairs.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.contiguous()
    save_file(tensors, directory / WEIGHTS)


def score(base: Path, pairs: Pairs) -> list[list[float]]:
    """Log-probs of the probe's tokens from `_START` on, by transformers on the merged weights."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, (a, b) in pairs.items():
            model.get_submodule(name).weight += b @ a
        logits = model(torch.tensor(_PROBE)).logits.log_softmax(-1)
    return [
        [float(logits[row, position - 1, token]) for position, token in enumerate(tokens) if position >= _START]
        for row, tokens in enumerate(_PROBE)
    ]


def _embedding(base: Path) -> torch.Tensor:
    weight = (
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).get_input_embeddings().weight.detach().clone()
    )
    weight[:, 0] = 0.0  # the constant channel
    return weight
