"""The seam between the chat API and the engine: what serving needs of vLLM, in our words.

`serving/engine.py` implements it with vLLM; the fast tests implement it with a small fake. Nothing here loads vllm.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from core.errors import ApiError

MAX_ADAPTERS = 8
"""Adapters that an engine holds at once; beyond that vLLM would drop one and read it again inside a step."""


@dataclass(kw_only=True, slots=True)
class Sampled:
    """One choice as it grows."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    """Includes the end-of-text token when it was sampled."""
    logprobs: list[float] = field(default_factory=list)
    """Of each token, if the client asked; under the distribution that was sampled from: after temperature, top-p and
    the like."""
    finish_reason: str | None = None


@dataclass(kw_only=True, slots=True)
class Capture:
    """What the engine really sampled for one request; filled while it runs, also when it is cut off."""

    prompt_token_ids: list[int] = field(default_factory=list)
    choices: dict[int, Sampled] = field(default_factory=dict)
    """By choice index."""
    sampling: dict[str, Any] = field(default_factory=dict)
    """The sampling parameters in force, defaults filled in."""
    finished: bool = False
    """Every choice has its finish reason."""
    error: ApiError | None = None
    """Why the engine gave up."""
    first_token: float | None = None
    """Monotonic seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """A chat request that the engine has parsed and will accept."""

    stream: bool
    native: Any
    """The engine's own request object."""
    choices: int = 1
    """How many answers it asks for."""


class Engine(Protocol):
    """One engine over one frozen base. Every failure that a caller may see is a `core.errors.ApiError`."""

    dtype: str
    """Serving dtype, e.g. `float32`; known once started."""

    @property
    def alive(self) -> bool: ...

    async def start(self, *, max_rank: int) -> None:
        """Builds the engine and warms it up; callable again after its death."""

    async def stop(self) -> None:
        """Ends the engine's processes. Idempotent."""

    def parse(self, body: dict[str, Any]) -> ChatRequest:
        """Checks a chat body.

        Raises:
            InvalidRequest: with the field in `param`.
        """

    async def load(self, name: str, directory: Path) -> None:
        """Loads a verified adapter and makes it routable under `name`.

        Raises:
            AdapterError: the engine refused it or took too long; nothing of it stays behind.
        """

    async def unload(self, name: str) -> None:
        """Forgets an adapter that no request uses any more."""

    async def score(self, name: str | None, token_ids: list[int]) -> list[float]:
        """Log-probs of `token_ids[1:]`, teacher-forced, under the adapter `name` (None: the base without one)."""

    async def answer(self, request: ChatRequest, *, model: str, completion_id: str, capture: Capture) -> dict[str, Any]:
        """The body of OpenAI's chat completion. `completion_id` is one of `new_id("chatcmpl-")`."""

    def stream(
        self, request: ChatRequest, *, model: str, completion_id: str, capture: Capture
    ) -> AsyncGenerator[str, None]:
        """OpenAI's chunks as JSON text, without the final `[DONE]`. Raises where vLLM would send an error event."""
