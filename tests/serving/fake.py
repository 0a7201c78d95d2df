"""A fake at the engine's seam: a class with the engine's methods that writes its adapter's name instead of thinking.

Adapters and base are real files that pass the real verification; only the arithmetic is missing.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from core.adapters import CONFIG, MANIFEST, WEIGHTS, adapter_sha256, base_shapes
from core.errors import AdapterError, ApiError, InvalidRequest, Unavailable
from core.records import AdapterManifest, ProbeSequence
from serving.protocol import Capture, ChatRequest, Sampled

MODULES = [f"model.layers.{layer}.mlp.down_proj" for layer in range(2)]


class FakeEngine:
    """Every answer is `max_tokens` times the name of the adapter, one token each; `gate` holds tokens back."""

    def __init__(self) -> None:
        self.dtype = "float32"
        self.alive = False
        self.starts = 0
        self.max_rank = 0
        self.adapters: dict[str, Path] = {}
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.seen: list[dict[str, Any]] = []
        """The bodies that were answered."""
        self.refuse: set[str] = set()
        """Names whose load fails."""
        self.distort = 0.0
        """Added to every served log-prob."""
        self.fail_after: int | None = None
        """Tokens after which every answer breaks."""
        self.pause_s: dict[str, float] = {}
        """Before each token, by the adapter's name."""
        self.words: dict[str, tuple[str, int | None]] = {}
        """What an adapter says instead of its name at each token, and as which token id; None numbers them."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0
        self.cancelled = 0

    async def start(self, *, max_rank: int) -> None:
        self.adapters.clear()
        self.starts += 1
        self.max_rank = max_rank
        self.alive = True

    async def stop(self) -> None:
        self.alive = False

    def parse(self, body: dict[str, Any]) -> ChatRequest:
        if body.get("temperature", 1.0) < 0:
            raise InvalidRequest("temperature must not be negative", param="temperature")
        return ChatRequest(stream=bool(body.get("stream")), native=body, choices=int(body.get("n", 1)))

    async def load(self, name: str, directory: Path) -> None:
        if name in self.refuse:
            raise AdapterError(f"refused {name}")
        assert name not in self.adapters
        self.loads.append(name)
        self.adapters[name] = directory

    async def unload(self, name: str) -> None:
        self.unloads.append(name)
        del self.adapters[name]

    async def score(self, name: str | None, token_ids: list[int]) -> list[float]:
        assert name is not None
        manifest = AdapterManifest.model_validate_json((self.adapters[name] / MANIFEST).read_text())
        sequence = next(sequence for sequence in manifest.probe if sequence.token_ids == token_ids)
        before = [0.0] * (sequence.start - 1)
        return before + [logprob + self.distort for logprob in sequence.logprobs]

    async def answer(self, request: ChatRequest, *, model: str, completion_id: str, capture: Capture) -> dict[str, Any]:
        chunks = [
            json.loads(chunk)
            async for chunk in self.stream(request, model=model, completion_id=completion_id, capture=capture)
        ]
        text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
        return {"id": completion_id, "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}

    async def stream(
        self, request: ChatRequest, *, model: str, completion_id: str, capture: Capture
    ) -> AsyncGenerator[str, None]:
        if not self.alive:
            raise Unavailable("gone", code="engine_unavailable")
        assert model in self.adapters, "routed to an adapter that is not loaded"
        assert completion_id.startswith("chatcmpl-"), "vLLM's own serving layer puts this before the id of its request"
        self.seen.append(request.native)
        tokens = int(request.native.get("max_tokens", 3))
        capture.prompt_token_ids = [1, 2, 3]
        capture.choices[0] = sampled = Sampled()
        word, token = self.words.get(model, (model + " ", None))
        self.running += 1
        try:
            for index in range(tokens):
                await self.gate.wait()
                await asyncio.sleep(self.pause_s.get(model, 0))
                if self.fail_after is not None and index >= self.fail_after:
                    capture.error = ApiError("The engine could not answer this request.", code="engine_error")
                    raise capture.error
                sampled.text += word
                sampled.token_ids.append(index if token is None else token)
                sampled.logprobs.append(-0.5)
                if index == tokens - 1:
                    sampled.finish_reason, capture.finished = "length", True
                delta = {"index": 0, "delta": {"content": word}, "finish_reason": sampled.finish_reason}
                yield json.dumps({"id": completion_id, "created": 1, "model": model, "choices": [delta]})
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


def write_base(directory: Path) -> Path:
    """Two linear modules and the files that the digests cover."""
    directory.mkdir(parents=True)
    weights = {f"{name}.weight": np.zeros((4, 6), np.float32) for name in MODULES}
    save_file(weights, directory / "model.safetensors")
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer.json").write_text("{}")
    return directory


def publish(artifacts: Path, base: Path, *, number: int, rank: int = 2) -> str:
    """A valid adapter, different for each `number`, whose probe says log-prob `-number` three times."""
    directory = artifacts / "adapters" / "fresh"
    directory.mkdir(parents=True)
    tensors = {}
    for name in MODULES:
        tensors[f"base_model.model.{name}.lora_A.weight"] = np.full((rank, 6), number, np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.zeros((4, rank), np.float32)
    save_file(tensors, directory / WEIGHTS)
    (directory / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank}))
    shapes, sha256 = base_shapes(base), adapter_sha256(directory)
    probe = ProbeSequence(token_ids=[5, 6, 7, 8], start=1, logprobs=[-float(number)] * 3)
    manifest = AdapterManifest(
        sha256=sha256,
        base_sha256=shapes.sha256,
        tokenizer_sha256=shapes.tokenizer_sha256,
        rank=rank,
        serving_dtype="float32",
        probe=[probe],
    )
    (directory / MANIFEST).write_text(manifest.to_json())
    directory.rename(artifacts / "adapters" / sha256)
    return sha256
