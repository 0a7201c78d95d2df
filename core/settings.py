"""The only reader of the environment.

Each field is one variable, `PLUMBLINE_` + its name in capitals, except the four well-known names without a prefix.
A wrong value stops the program with a line that names the variable.
"""

import functools
import re
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import UsageError

_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


class Settings(BaseSettings):
    """Where everything is and how the service behaves."""

    model_config = SettingsConfigDict(env_prefix="PLUMBLINE_", frozen=True, extra="ignore", populate_by_name=True)

    home: Path = Path("~/.plumbline")
    """Everything that Plumbline writes on this machine: Redis data, artifacts, the demo base model, logs."""
    redis_url: str = Field("", validation_alias=AliasChoices("REDIS_URL", "PLUMBLINE_REDIS_URL"))
    """Votes, registry and runs. Empty: `plumbline up` starts its own Redis under `home`."""
    broker_url: str = Field("", validation_alias=AliasChoices("BROKER_URL", "PLUMBLINE_BROKER_URL"))
    """Celery's broker. Empty: the same Redis."""
    artifacts_url: str = Field("", validation_alias=AliasChoices("ARTIFACTS_URL", "PLUMBLINE_ARTIFACTS_URL"))
    """Adapters, snapshots, run directories. Empty: `home`/artifacts."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    admin_host: str = "127.0.0.1"
    """The admin listener (metrics, policies, rollback). Loopback by default: it has no keys yet."""
    admin_port: int = Field(8001, ge=1, le=65535)

    base: str = ""
    """Path or hub id of the frozen base, a Hugging Face causal LM."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Serving dtype; `auto` is float32 on CPU and the base's own elsewhere."""
    max_model_len: int | None = Field(None, ge=32)
    """Longest prompt + completion, in tokens; None takes the base's own limit."""
    kv_cache_gib: int = Field(1, ge=1)
    """Memory of the engine's KV cache on CPU, in GiB."""

    recipe: str = "default"
    """`default`, or the path of a TOML file with the trainers' values (see training/recipe.py)."""
    min_votes: int = Field(300, ge=1)
    """New votes that start a round."""
    check_interval_s: float = Field(20.0, gt=0)
    """How often the scheduler counts."""
    lease_s: float = Field(60.0, gt=1)
    """A run whose worker has been silent for so long is given to the next."""
    max_attempts: int = Field(3, ge=1)

    train_by_default: bool = True
    """Whether a completion without `store` and without a train flag may be trained on. `store: false` never is, and
    keeps no text."""
    trust: bool = True
    """Whether raters are judged before each round: weighed, and set aside where many signs are against them. Below
    twenty raters it is reported only."""
    min_reading_s: float = Field(1.0, ge=0)
    """A person's vote that comes sooner after the answer began trains nothing; 0 lets every vote pass."""
    feedback_window_s: int = Field(7 * 24 * 3600, ge=60)
    """How long a completion can be voted on."""
    archive_after_s: float = Field(24 * 3600.0, gt=0)
    """How long votes wait before they are copied to the archive under the artifacts, or half the feedback window if
    that is sooner. Redis gives them up when nobody can change them by a vote any more."""
    max_body_bytes: int = Field(256 * 1024, ge=1024)
    cors_origins: str = ""
    """Origins, with commas between, whose pages may vote with receipts: `https://app.example,http://localhost:8080`."""

    @field_validator("cors_origins")
    @classmethod
    def _explicit(cls, given: str) -> str:
        for origin in _listed(given):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: name each as a browser sends it, https://app.example")
        return given

    @property
    def vote_origins(self) -> list[str]:
        """`cors_origins`, one by one."""
        return _listed(self.cors_origins)

    @property
    def directory(self) -> Path:
        """`home`, absolute."""
        return self.home.expanduser().resolve()

    @property
    def artifacts(self) -> Path:
        """The artifact directory, absolute."""
        return (
            Path(self.artifacts_url.removeprefix("file://")).resolve()
            if self.artifacts_url
            else self.directory / "artifacts"
        )

    def environment(self) -> dict[str, str]:
        """These settings as variables, for a child process."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {_VARIABLES.get(name, f"PLUMBLINE_{name.upper()}"): str(value) for name, value in values.items()}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


_VARIABLES = {"redis_url": "REDIS_URL", "broker_url": "BROKER_URL", "artifacts_url": "ARTIFACTS_URL"}


@functools.cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        UsageError: a variable holds a value that cannot work.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "PLUMBLINE_" + str(first["loc"][0]).upper().removeprefix("PLUMBLINE_")
        raise UsageError(f"{name}: {first['msg']} (it is {first.get('input')!r}).") from None
