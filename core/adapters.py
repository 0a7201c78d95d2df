"""Adapter directories: how they are named, hashed and verified. Publisher and replica use the same code.

An adapter directory is PEFT's own format plus a manifest, immutable, named by its hash:

    adapters/{sha256}/adapter_config.json    adapter_model.safetensors    plumbline.json (AdapterManifest)

vLLM accepts adapters with wrong shapes, missing layers or NaN weights without a word, and then serves wrong text or
poisons other requests (vllm notes, G5 and G7). So nothing reaches the engine that did not pass `verify` here. Neither
torch nor vllm is needed: safetensors is a JSON header and raw little-endian numbers.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from core.errors import AdapterError
from core.records import AdapterManifest

CONFIG, WEIGHTS, MANIFEST = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "plumbline.json",
)
_KEY_PREFIX = "base_model.model."
_LORA_SIDES = {".lora_A.weight": 0, ".lora_B.weight": 1}
_UNSUPPORTED = (
    "use_dora",
    "use_qalora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
)
"""PEFT options that change the function and that vLLM serves wrongly or not at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseShapes:
    """What an adapter must fit: `weights["model.layers.0.mlp.up_proj"] == (384, 128)`, as (out, in)."""

    sha256: str
    tokenizer_sha256: str
    weights: dict[str, tuple[int, ...]]


def adapter_sha256(directory: Path) -> str:
    """Over the two files that define the function: config and weights."""
    return _digest([directory / CONFIG, directory / WEIGHTS])


def base_shapes(base: Path) -> BaseShapes:
    """Reads the shapes and digests of a base model directory (safetensors headers only; the digest reads all bytes).

    Raises:
        AdapterError: the directory holds no safetensors weights.
    """
    files = sorted(base.glob("*.safetensors"))
    if not files:
        raise AdapterError(f"{base} holds no *.safetensors: Plumbline reads no other weight format. Convert it first.")
    weights = {}
    for file in files:
        for name, entry in read_header(file)[0].items():
            weights[name.removesuffix(".weight")] = tuple(entry["shape"])
    tokenizer = [base / name for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")]
    return BaseShapes(
        sha256=_digest([base / "config.json", *files]),
        tokenizer_sha256=_digest([file for file in tokenizer if file.exists()]),
        weights=weights,
    )


def read_header(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The tensors that a safetensors file declares, and the offset of their bytes.

    Raises:
        AdapterError: the file is missing, truncated or not safetensors.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 0 < length < size else None
    except (OSError, ValueError) as error:
        raise AdapterError(f"{file.name} cannot be read as safetensors: {error}") from None
    if not isinstance(header, dict):
        raise AdapterError(f"{file.name} is not a safetensors file or is cut off")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not _is_tensor(entry):
            raise AdapterError(f"{file.name}: the header's entry {name!r} is malformed")
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if 8 + length + end != size:
        raise AdapterError(f"{file.name} is cut off: it declares {8 + length + end} bytes and has {size}")
    return header, 8 + length


def _is_tensor(entry: Any) -> bool:
    """Whether a header entry has a dtype, a shape, and offsets; for float32 also as many bytes as the shape needs."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    if not all(type(number) is int and number >= 0 for number in (*shape, *offsets)):
        return False
    size: int = offsets[1] - offsets[0]
    return size == 4 * math.prod(shape) if entry["dtype"] == "F32" else size >= 0


def verify(directory: Path, base: BaseShapes, *, expected_sha256: str) -> AdapterManifest:
    """Checks everything about an adapter that can be checked without running it.

    Hash, manifest, base and tokenizer, LoRA options that vLLM serves wrongly or not at all, one A (rank, in) and one B
    (out, rank) for each adapted module of the base, finite float32 numbers.

    Raises:
        AdapterError: with the reason; the adapter must not reach the engine.
    """
    try:
        manifest = AdapterManifest.model_validate_json((directory / MANIFEST).read_text())
        config = json.loads((directory / CONFIG).read_text())
        found = adapter_sha256(directory)
    except (OSError, ValueError, ValidationError) as error:
        raise AdapterError(f"adapter {directory.name}: {error}") from None
    if found != expected_sha256 or manifest.sha256 != expected_sha256:
        raise AdapterError(f"adapter {directory.name}: its sha256 is {found}, expected {expected_sha256}")
    if manifest.base_sha256 != base.sha256:
        raise AdapterError(f"adapter {directory.name} was trained on another base ({manifest.base_sha256[:12]})")
    if manifest.tokenizer_sha256 != base.tokenizer_sha256:
        raise AdapterError(f"adapter {directory.name} was trained with another tokenizer or chat template")
    _check_config(config)
    if config["r"] != manifest.rank:
        raise AdapterError(f"the config says rank {config['r']}, the manifest {manifest.rank}")
    header, offset = read_header(directory / WEIGHTS)
    _check_shapes(header, base, rank=config["r"])
    _check_finite(directory / WEIGHTS, header, offset)
    return manifest


def _check_config(config: Any) -> None:
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterError("the adapter is not LoRA")
    if type(config.get("r")) is not int or config["r"] < 1:
        raise AdapterError("the adapter has no positive rank")
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float) or not 0 < alpha <= 64 * config["r"]:
        raise AdapterError(f"lora_alpha is {alpha}: with 0 the base would be served in the adapter's name")
    for option in _UNSUPPORTED:
        if config.get(option):
            raise AdapterError(f"{option} is not supported")
    if config.get("bias", "none") != "none":
        raise AdapterError("bias is not supported")


def _check_shapes(header: dict[str, dict[str, Any]], base: BaseShapes, *, rank: int) -> None:
    sides: dict[str, dict[int, tuple[int, ...]]] = {}
    for key, entry in header.items():
        for suffix, side in _LORA_SIDES.items():
            if key.startswith(_KEY_PREFIX) and key.endswith(suffix):
                module = key.removeprefix(_KEY_PREFIX).removesuffix(suffix)
                sides.setdefault(module, {})[side] = tuple(entry["shape"])
                break
        else:
            raise AdapterError(f"unexpected tensor {key}")
        if entry["dtype"] != "F32":
            raise AdapterError(f"{key} is {entry['dtype']}: adapters are stored in float32")
    if not sides:
        raise AdapterError("the adapter holds no tensors")
    for module, shapes in sides.items():
        expected = base.weights.get(module)
        if expected is None or len(expected) != 2:
            raise AdapterError(f"the base has no linear module {module}")
        out_features, in_features = expected
        if shapes != {0: (rank, in_features), 1: (out_features, rank)}:
            raise AdapterError(f"{module}: shapes {shapes} do not fit rank {rank} over {expected}")
    _check_complete(sides.keys(), base)


def _check_complete(adapted: Any, base: BaseShapes) -> None:
    """A module kind that is adapted in one layer is adapted in all: a lost layer would be served without a word."""
    kinds = {module.rsplit(".", 1)[-1] for module in adapted}
    missing = [name for name in base.weights if name.rsplit(".", 1)[-1] in kinds and name not in adapted]
    if missing:
        raise AdapterError(f"the adapter misses {len(missing)} modules, the first is {missing[0]}")


def _check_finite(file: Path, header: dict[str, dict[str, Any]], offset: int) -> None:
    for key, entry in header.items():
        begin, _ = entry["data_offsets"]
        values = np.memmap(
            file,
            dtype="<f4",
            mode="r",
            offset=offset + begin,
            shape=(math.prod(entry["shape"]),),
        )
        if not np.isfinite(values).all():
            raise AdapterError(f"{key} holds NaN or infinite numbers")


def _digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}:{file.stat().st_size}:".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()
