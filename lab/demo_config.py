"""The values of the demo's story, read from `[demo]` in `demo.toml`."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from lab.arena import ArenaConfig
from lab.base_config import DEMO_FILE
from lab.chats import ChatsConfig
from lab.raters import RatersConfig
from lab.release import ReleaseConfig


class DemoConfig(BaseModel):
    """Everything that is not the base model's (`[base_model]`) or the trainers' (`[recipe]`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    """Of prompts and raters. Answers are sampled by the service, so two demos differ all the same."""
    rounds: int = Field(ge=1)
    min_votes: int = Field(ge=1)
    """New comparison votes that start a round: the service's setting of that name during the demo."""
    min_votes_ppo: int = Field(ge=1)
    """The same with PPO, whose judge learns from a fifth of the votes only."""
    check_interval_s: float = Field(gt=0)
    """How often the scheduler counts, likewise."""
    votes_timeout_s: float = Field(gt=0)
    """Longest wait for the scheduler to start a round."""
    training_timeout_s: float = Field(gt=0)
    swap_timeout_s: float = Field(gt=0)
    """Longest wait between the registry's new version and somebody's first token of it."""
    chats: ChatsConfig
    raters: RatersConfig
    release: ReleaseConfig
    arena: ArenaConfig


def load_demo_config(path: Path = DEMO_FILE) -> DemoConfig:
    """Read `[demo]`. Raises pydantic's `ValidationError` naming the wrong key."""
    return DemoConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))["demo"])
