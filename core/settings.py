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
    """The admin listener (metrics, policies, rollback). Loopback by default."""
    admin_port: int = Field(8001, ge=1, le=65535)
    page: Literal["auto", "open", "off"] = "auto"
    """Whether visitors without a key may chat and vote on the chat page. `auto`: those on this machine, if the listener
    is loopback; `open`: everybody; `off`: there is no page."""
    trusted_proxies: str = "127.0.0.1"
    """Addresses or networks, with commas between, of the proxies whose x-forwarded-for and -proto are believed; nobody
    else's are."""
    conversation_days: float = Field(30.0, gt=0)
    """How long a conversation of the page is kept after it was last written."""
    secret: str = Field("", repr=False)
    """What API keys are hashed and sessions of the page signed with, 32 characters or more, the same on every replica.
    Empty: `home`/secret, a file that is made at the first start."""

    log: Literal["text", "json"] = "text"
    """How processes log: lines for people, or an object a line. Neither holds prompts (core/logs.py)."""
    otlp_endpoint: str = ""
    """An OpenTelemetry collector, `http://collector:4318`, that traces are sent to by OTLP over HTTP. Empty: none are
    made. Headers and sampling are the SDK's own `OTEL_*` variables."""

    base: str = ""
    """Path or hub id of the frozen base, a Hugging Face causal LM."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Serving dtype; `auto` is float32 on CPU and the base's own elsewhere."""
    max_model_len: int | None = Field(None, ge=32)
    """Longest prompt + completion, in tokens; None takes the base's own limit."""
    tool_parser: str = ""
    """vLLM's name for how the base writes tool calls, `hermes` for instance. Empty: requests with tools are refused."""
    max_answers: int = Field(256, ge=1)
    """Answers that a replica writes or keeps waiting at once; more requests get 503 with a time to come back."""
    max_queued_tokens: int = Field(131_072, ge=1)
    """Prompt tokens that may wait to be read by the engine."""
    stall_s: float = Field(30.0, gt=0)
    """A stream that nobody has read from for so long is cut off."""
    drain_s: float = Field(30.0, gt=0)
    """How long a replica that is told to stop lets streams in flight go on; then they are cut off."""
    kv_cache_gib: int = Field(1, ge=1)
    """Memory of the engine's KV cache on CPU, in GiB."""

    shadow: float = Field(0.0, ge=0, le=1)
    """Share of chats that a candidate answers too, unseen, before its release reaches anybody: the judge compares. 0:
    releases begin with their first users."""
    release_sampling: float = Field(0.5, ge=0, le=1)
    """Share of the comparisons that leave the choice to the server which, while a release is open, are its candidate
    against the incumbent: the votes that it is decided by. Independent of the release's share of traffic."""
    release_days: float = Field(14.0, gt=0)
    """A release that nothing decided by then is over, and the incumbent stays."""

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

    @field_validator("otlp_endpoint")
    @classmethod
    def _collector(cls, given: str) -> str:
        if given and not re.match(r"https?://[^/]", given):
            raise ValueError("is no URL of a collector: http://host:4318")
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
