"""The engine: vLLM 0.32 in process.

vLLM keeps the model in child processes and builds its own OpenAI serving objects (`init_app_state`); templates, tools,
structured output, log-probs and stop rules are vLLM's. Ours are the client that sees what is sampled
(engine_client.py), the refusals (engine_requests.py) and what a failure is called (engine_errors.py); nothing else
that serves imports vllm, but for `serving/lora_cpu.py` inside its worker. The contract test
`tests/serving/test_vllm_contract.py` holds each symbol used in them.
Left out: full-weight swaps (silently wrong on CPU), beam search (its samples belong to no policy).
"""

import asyncio
import gc
import json
import logging
import os
from argparse import Namespace
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from starlette.datastructures import State
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.exceptions import VLLMError
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.v1.engine.exceptions import EngineDeadError

from core import metrics
from core.errors import AdapterError
from serving import engine_client, engine_requests
from serving.engine_client import PolicyLLM
from serving.engine_errors import api_error, engine_away, shaped
from serving.engine_flags import flags
from serving.protocol import Capture, ChatRequest

LOAD_TIMEOUT_S = 60.0
WARM_UP_TOKENS = 64
_VLLM_ONLY = ("prompt_logprobs", "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics")

log = logging.getLogger("plumbline.engine")


class VllmEngine:
    """`serving.protocol.Engine` over one frozen base.

    Args:
        base: directory of the base model.
        dtype: serving dtype, or `auto` (float32 on CPU, the base's own elsewhere).
        max_model_len: None takes the base's own limit.
        tool_parser: vLLM's name for how the base writes tool calls, `hermes` for instance; empty: tools are refused.
        max_queued_tokens: prompt tokens that may wait; None: as many as come.
    """

    def __init__(
        self,
        base: Path,
        *,
        dtype: str = "auto",
        max_model_len: int | None = None,
        tool_parser: str = "",
        max_queued_tokens: int | None = None,
    ) -> None:
        self._base = base
        self._tool_parser = tool_parser
        self._max_queued_tokens = max_queued_tokens
        self._template = ""
        """The base's chat template, known once started."""
        self._on_cpu = current_platform.is_cpu()
        self.dtype = "float32" if dtype == "auto" and self._on_cpu else dtype
        self._max_model_len = max_model_len
        if self._on_cpu:
            # The worker would compile small sampling helpers with a C++ compiler while the first user waits (9 s seen).
            os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
        self._llm: PolicyLLM | None = None
        self._state = State()
        self._adapters: dict[str, LoRARequest] = {}
        self._next_id = count(1)
        """Never reused within a process: the worker would serve the old weights under the new name (G5)."""

    # --- life ---------------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self._llm is not None and not self._llm.errored

    async def start(self, *, max_rank: int) -> None:
        await self.stop()
        arguments = self._arguments(max_rank)
        with metrics.STARTUP.labels("configuration").time():
            config = await asyncio.to_thread(_engine_config, arguments)
        with metrics.STARTUP.labels("engine").time():
            self._llm = await asyncio.to_thread(engine_client.build, config)
        self.dtype = str(config.model_config.dtype).removeprefix("torch.")
        self._state = State()
        with metrics.STARTUP.labels("serving_layer").time():
            await init_app_state(self._llm, self._state, arguments, await self._llm.get_supported_tasks())
        self._state.openai_serving_chat.system_fingerprint = None
        self._template = _chat_template(self._llm)
        with metrics.STARTUP.labels("warm_up").time():
            if self._on_cpu:
                await self._check_operators()
            await self._warm_up(config)
        freeze_gc_heap()  # else the collector walks all of torch and vLLM every few seconds, and all streams wait

    async def stop(self) -> None:
        llm, self._llm = self._llm, None
        gc.unfreeze()
        self._state = State()
        self._adapters.clear()
        if llm is not None:
            if llm.output_handler is not None:
                llm.output_handler.cancel()  # else it reports the end of its process as a crash
            await asyncio.to_thread(engine_client.shut_down, llm)

    def _arguments(self, max_rank: int) -> Namespace:
        chosen = flags(
            self._base,
            dtype=self.dtype,
            max_rank=max_rank,
            max_model_len=self._max_model_len,
            tool_parser=self._tool_parser,
            on_cpu=self._on_cpu,
        )
        if self._max_queued_tokens is not None:
            chosen += ["--max-num-queued-tokens", str(self._max_queued_tokens)]
        arguments: Namespace = _parser().parse_args(chosen)
        validate_parsed_serve_args(arguments)
        return arguments

    async def _warm_up(self, config: VllmConfig) -> None:
        """The first batch must not be tiny: with 1 or 2 tokens the CPU worker dies of an illegal instruction (G4)."""
        model = config.model_config
        tokens = [token % model.get_vocab_size() for token in range(min(WARM_UP_TOKENS, model.max_model_len - 4))]
        await self._run(tokens, SamplingParams(max_tokens=4, logprobs=0), None)

    async def _check_operators(self) -> None:
        for names in await self._client.collective_rpc("plumbline_lora_operators"):
            if not all(name.startswith("serving.lora_cpu.") for name in names):
                raise RuntimeError(f"the CPU worker runs vLLM's own LoRA operators: {names}")

    @property
    def _client(self) -> PolicyLLM:
        if self._llm is None or self._llm.errored:
            raise engine_away()
        return self._llm

    # --- adapters -----------------------------------------------------------------------------------------------------

    async def load(self, name: str, directory: Path) -> None:
        assert name not in self._adapters
        adapter = LoRARequest(name, next(self._next_id), str(directory))
        client = self._client
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                if not await client.add_lora(adapter):
                    raise AdapterError(f"vLLM refused {name}")
        except EngineDeadError:
            raise engine_away() from None
        except Exception as error:
            # A failed adapter may stay registered and would then answer with the base's words (G5).
            if not client.errored:
                await self._forget(adapter)
            raise AdapterError(f"vLLM could not load {name}: {error!r}") from error
        self._adapters[name] = adapter
        self._state.openai_serving_models.lora_requests[name] = adapter

    async def unload(self, name: str) -> None:
        adapter = self._adapters.pop(name)
        self._state.openai_serving_models.lora_requests.pop(name, None)
        await self._forget(adapter)

    async def _forget(self, adapter: LoRARequest) -> None:
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                await self._client.remove_lora(adapter.lora_int_id)
        except TimeoutError:  # harmless: no request is routed to it and its id is never used again
            log.warning("vLLM did not confirm within %s s that it forgot %s", LOAD_TIMEOUT_S, adapter.lora_name)

    async def score(self, name: str | None, token_ids: list[int]) -> list[float]:
        parameters = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        output = await self._run(token_ids, parameters, self._adapters[name] if name else None)
        assert output.prompt_logprobs is not None
        scored = zip(token_ids[1:], output.prompt_logprobs[1:], strict=True)
        return [candidates[token].logprob for token, candidates in scored if candidates is not None]

    async def _run(
        self, token_ids: list[int], parameters: SamplingParams, adapter: LoRARequest | None
    ) -> RequestOutput:
        request_id = f"plumbline-internal-{next(self._next_id)}"
        final: RequestOutput | None = None
        try:
            prompt = {"prompt_token_ids": token_ids}
            async for output in self._client.generate(prompt, parameters, request_id, lora_request=adapter):
                final = output
        except (VLLMError, EngineDeadError) as error:
            raise api_error(error) from error
        assert final is not None
        return final

    # --- chats --------------------------------------------------------------------------------------------------------

    def parse(self, body: dict[str, Any]) -> ChatRequest:
        return engine_requests.parse(body, template=self._template, tool_parser=self._tool_parser)

    async def answer(self, request: ChatRequest, *, model: str, completion_id: str, capture: Capture) -> dict[str, Any]:
        with self._captured(completion_id, capture):
            result = await self._create(request, model, completion_id)
        return {name: value for name, value in result.model_dump(mode="json").items() if name not in _VLLM_ONLY}

    async def stream(
        self, request: ChatRequest, *, model: str, completion_id: str, capture: Capture
    ) -> AsyncGenerator[str, None]:
        with self._captured(completion_id, capture):
            async with aclosing(await self._create(request, model, completion_id)) as events:
                async for event in events:
                    payload = event.removeprefix("data: ").rstrip()
                    if payload == "[DONE]":
                        break
                    if payload.startswith('{"error"'):
                        raise capture.error or shaped(ErrorResponse.model_validate_json(payload))
                    yield payload

    @contextmanager
    def _captured(self, completion_id: str, capture: Capture) -> Iterator[None]:
        captures = self._client.captures
        captures[completion_id] = capture
        try:
            yield
        finally:
            del captures[completion_id]

    async def _create(self, request: ChatRequest, model: str, completion_id: str) -> Any:
        """vLLM's own chat serving, without the HTTP request: so no header of the caller can reach it as an id."""
        assert model in self._adapters, (
            "a request may only name a resident adapter: loading inside a step is fatal (G6)"
        )
        request.native.model = model
        request.native.request_id = completion_id.removeprefix("chatcmpl-")
        try:
            result = await self._state.openai_serving_chat.create_chat_completion(request.native, None)
        except Exception as error:
            raise api_error(error) from error
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # vLLM turns a cancellation into an error body
            raise asyncio.CancelledError
        if isinstance(result, ErrorResponse):
            raise shaped(result)
        return result


def _chat_template(llm: PolicyLLM) -> str:
    """As text; tokenizers may have one for tools and one without."""
    template = getattr(llm.get_tokenizer(), "chat_template", None) or ""
    return template if isinstance(template, str) else json.dumps(template)


def _parser() -> Any:
    return make_arg_parser(FlexibleArgumentParser())  # type: ignore[no-untyped-call]


def _engine_config(arguments: Namespace) -> VllmConfig:
    config: VllmConfig = AsyncEngineArgs.from_cli_args(arguments).create_engine_config()
    return config
