"""The recipe of the demo base model: `[base_model]` in `demo.toml`. Imports neither torch nor transformers."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

DEMO_FILE = Path(__file__).with_name("demo.toml")


class BaseModelConfig(BaseModel):
    """Everything that decides the weights. Same values, same machine, same libraries: same bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    """Of the weights, the documents and their order."""
    hidden_size: int = Field(ge=32)
    layers: int = Field(ge=1)
    vocab_size: int = Field(ge=300)
    """Most tokens that the tokenizer may have."""
    max_positions: int = Field(ge=64)
    tokens: int = Field(gt=0)
    """Training tokens, padding included. A number of tokens, never of seconds: time would decide the weights."""
    batch_tokens: int = Field(ge=128)
    """Padded tokens a step."""
    muon_lr: float = Field(gt=0)
    """Peak learning rate of the matrices."""
    adamw_lr: float = Field(gt=0)
    """Peak learning rate of embeddings and norms."""
    warmup: float = Field(ge=0, lt=1)
    """Share of training in which the learning rates rise."""
    decay: float = Field(gt=0, le=1)
    """Share of training, at the end, in which they fall."""
    prompt_weight: float = Field(ge=0, le=1)
    """Loss weight of what the user and the system say; what the assistant says weighs 1."""
    bfloat16: bool
    """Forward and backward in bfloat16 where the CPU has units for it (AMX or AVX-512 BF16); weights stay fp32."""
    threads: int = Field(ge=1)
    """Shares of a batch computed side by side. Their sum has other bits than the whole, so it belongs to the recipe."""


def load_config(path: Path = DEMO_FILE) -> BaseModelConfig:
    """Read `[base_model]`. Raises pydantic's `ValidationError` naming the wrong key."""
    return BaseModelConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))["base_model"])
