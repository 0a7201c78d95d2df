"""The engine: vLLM 0.32 in process. The only module that imports vllm (`serving/lora_cpu.py` runs inside its worker).

vLLM keeps the model in child processes and builds its own OpenAI serving objects (`init_app_state`); templates, tools,
structured output, log-probs and stop rules are vLLM's. We subclass `AsyncLLM` for one reason: its `generate` sees what
every request really samples. The contract test `tests/serving/test_vllm_contract.py` holds each symbol used here.
Left out: full-weight swaps (silently wrong on CPU), beam search (its samples belong to no policy).
"""

import asyncio
import gc
import json
import logging
import os
import re
import time
from argparse import Namespace
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.datastructures import State
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.generate.base.protocol import ResponseFormat
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.exceptions import VLLMError
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.v1.engine import utils as engine_utils
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.executor import Executor, UniProcExecutor

from core import metrics
from core.errors import AdapterError, ApiError, InvalidRequest, NotFound, Overloaded, Unavailable
from core.http import invalid_request
from serving import engine_process
from serving.engine_flags import flags
from serving.protocol import Capture, ChatRequest, Sampled

MAX_CHOICES = 16
MAX_WHITE_SPACE = 2  # characters in a row, within a tool call
LOAD_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
WARM_UP_TOKENS = 64
_VLLM_ONLY = ("prompt_logprobs", "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics")
_UNION_MEMBER = re.compile(r"[A-Z]|.*\[|(str|int|float|bool)$")
_RECORDED = ("n", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "min_tokens", "stop", "logit_bias")
_RECORDED_PENALTIES = ("presence_penalty", "frequency_penalty", "repetition_penalty")

log = logging.getLogger("plumbline.engine")


class PolicyLLM(AsyncLLM):
    """vLLM's engine client, which also fills the `Capture` that waits under a request's id; others pass untouched."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.captures: dict[str, Capture] = {}

    def __del__(self) -> None:
        """Not vLLM's own, which would shut down once more, at interpreter exit with half of its modules gone."""

    async def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        capture = self.captures.get(request_id)
        if capture is not None:
            capture.sampling = _sampling(sampling_params)
        _bound_white_space(sampling_params)
        try:
            async with aclosing(super().generate(prompt, sampling_params, request_id, **options)) as outputs:
                async for output in outputs:
                    if capture is not None:
                        _fill(capture, output, grows=sampling_params.output_kind == RequestOutputKind.DELTA)
                    yield output
        except Exception as error:
            if capture is not None:
                capture.error = api_error(error)
            raise


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
            self._llm = await asyncio.to_thread(_build, config)
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
            await asyncio.to_thread(_shut_down, llm)

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
        try:
            native = ChatCompletionRequest.model_validate(body)
        except ValidationError as error:
            raise _malformed(error) from None
        except VLLMError as error:
            raise api_error(error) from None
        except (KeyError, TypeError, AttributeError) as error:  # vLLM looks into fields before it knows their types
            raise InvalidRequest(f"The request is malformed: {error!r}.") from None
        if native.n is not None and not 1 <= native.n <= MAX_CHOICES:
            raise InvalidRequest(f"n is from 1 to {MAX_CHOICES}.", param="n")
        _refuse_unknown(native)
        self._refuse_unhonoured(native)
        return ChatRequest(stream=bool(native.stream), native=native, choices=native.n or 1)

    def _refuse_unhonoured(self, request: ChatCompletionRequest) -> None:
        """What this base or this deployment would drop in silence."""
        if request.tools and request.tool_choice != "none" and not self._tool_parser:
            raise InvalidRequest(
                "Tools need a parser of the base's tool calls: PLUMBLINE_TOOL_PARSER names it (docs/api.md).",
                param="tools",
                code="tools_unavailable",
            )
        form = request.response_format
        if isinstance(form, ResponseFormat) and form.json_schema is not None and form.json_schema.json_schema is None:
            said = "A json_schema needs its `schema`; any JSON is `json_object`."
            raise InvalidRequest(said, param="response_format.json_schema.schema")
        sought = {"tools": request.tools, "documents": request.documents} | (request.chat_template_kwargs or {})
        missing = [name for name, value in sought.items() if value is not None and not self._renders(name)]
        effort = request.reasoning_effort is not None
        if effort and not self._renders("reasoning_effort") and not self._renders("enable_thinking"):
            missing.append("reasoning_effort")
        if missing:
            known = missing[0] in ChatCompletionRequest.model_fields
            raise InvalidRequest(
                f"The base's chat template has no place for {missing[0]!r}.",
                param=missing[0] if known else f"chat_template_kwargs.{missing[0]}",
                code="unsupported_parameter",
            )

    def _renders(self, name: str) -> bool:
        return re.search(rf"\b{re.escape(name)}\b", self._template) is not None

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
                        raise capture.error or _shaped(ErrorResponse.model_validate_json(payload))
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
            raise _shaped(result)
        return result


def engine_away() -> Unavailable:
    return Unavailable("The engine is restarting; try again in a moment.", code="engine_unavailable")


def api_error(error: BaseException) -> ApiError:
    """What the caller is told of any failure inside vLLM."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineDeadError):
        return engine_away()
    if not isinstance(error, Exception):
        return ApiError("The engine stopped this request.")
    return _shaped(create_error_response(error))


def _shaped(response: ErrorResponse) -> ApiError:
    """vLLM's error body (numbers as `code`) as one of ours."""
    error = response.error
    if error.code == 404:
        return NotFound(error.message, param="model", code="model_not_found")
    if 400 <= error.code < 500:
        too_long = error.param == "input_tokens" or "maximum context length" in error.message
        if too_long:
            return InvalidRequest(error.message, param="messages", code="context_length_exceeded")
        return InvalidRequest(error.message, param=error.param)
    if error.code == 503:
        return Overloaded(error.message, wait_s=2.0)
    log.error("the engine failed a request: %s", error.message)
    return ApiError("The engine could not answer this request.", code="engine_error")


def _refuse_unknown(native: BaseModel, place: str = "") -> None:
    """vLLM's models take any field, in silence; but inside free-form values, such as a JSON schema, all are the
    caller's."""
    if unknown := sorted(native.model_extra or {}):
        param = f"{place}{unknown[0]}"
        raise InvalidRequest(f"Unknown field {param!r}.", param=param, code="unknown_parameter")
    for name, value in vars(native).items():
        for number, each in enumerate(value if isinstance(value, list) else ()):
            if isinstance(each, BaseModel):
                _refuse_unknown(each, f"{place}{name}.{number}.")
        if isinstance(value, BaseModel):
            _refuse_unknown(value, f"{place}{name}.")


def _chat_template(llm: PolicyLLM) -> str:
    """As text; tokenizers may have one for tools and one without."""
    template = getattr(llm.get_tokenizer(), "chat_template", None) or ""
    return template if isinstance(template, str) else json.dumps(template)


def _malformed(error: ValidationError) -> InvalidRequest:
    """pydantic names the union member inside the location; the caller only knows the field."""
    first = dict(error.errors()[0])
    location = first["loc"]
    assert isinstance(location, tuple)
    readable = [part for part in location if not (isinstance(part, str) and _UNION_MEMBER.match(part))]
    return invalid_request([first | {"loc": tuple(readable)}])


def _parser() -> Any:
    return make_arg_parser(FlexibleArgumentParser())  # type: ignore[no-untyped-call]


def _engine_config(arguments: Namespace) -> VllmConfig:
    config: VllmConfig = AsyncEngineArgs.from_cli_args(arguments).create_engine_config()
    return config


def _build(config: VllmConfig) -> PolicyLLM:
    # vLLM would put a worker process behind the engine's on CPU, only to pin its threads. The worker polls for a second
    # after each step, which under a steady trickle of chats is all the time: a core that the trainer needs.
    if not current_platform.is_cpu():
        return _connected(config, Executor.get_class(config))
    with engine_process.forked(engine_utils):
        return _connected(config, UniProcExecutor)


def _connected(config: VllmConfig, executor: type[Executor]) -> PolicyLLM:
    return PolicyLLM(vllm_config=config, executor_class=executor, log_stats=True, log_requests=False)


def _shut_down(llm: PolicyLLM) -> None:
    """Returns when the children are gone: a clean exit takes them some 5 s, which is when vLLM's default kills them."""
    children = llm.engine_core.resources.engine_manager.processes
    llm.shutdown(timeout=STOP_TIMEOUT_S)
    for child in children:
        child.join(STOP_TIMEOUT_S)


def _sampling(parameters: SamplingParams) -> dict[str, Any]:
    """What is recorded of them."""
    values = {name: getattr(parameters, name) for name in (*_RECORDED, *_RECORDED_PENALTIES)}
    return {name: value for name, value in values.items() if value not in (None, [], {})}


def _bound_white_space(parameters: SamplingParams) -> None:
    """`disable_any_whitespace` does not reach the JSON of tool calls."""
    forced = parameters.structured_outputs
    if forced is not None and isinstance(forced.structural_tag, str):
        forced.structural_tag = json.dumps(_bounded(json.loads(forced.structural_tag)))


def _bounded(tag: Any) -> Any:
    """A structural tag of xgrammar's; JSON schemas inside stay as they are."""
    if isinstance(tag, list):
        return [_bounded(each) for each in tag]
    if not isinstance(tag, dict):
        return tag
    if tag.get("type") == "json_schema":
        return tag | {"max_whitespace_cnt": tag.get("max_whitespace_cnt") or MAX_WHITE_SPACE}
    return {name: _bounded(value) for name, value in tag.items()}


def _fill(capture: Capture, output: RequestOutput, *, grows: bool) -> None:
    if output.prompt_token_ids and not capture.prompt_token_ids:
        capture.prompt_token_ids = list(output.prompt_token_ids)
    for part in output.outputs:
        if not grows:
            capture.choices.pop(part.index, None)
        sampled = capture.choices.setdefault(part.index, Sampled())
        sampled.text += part.text
        sampled.token_ids.extend(part.token_ids)
        sampled.logprobs.extend(_logprobs(part))
        sampled.finish_reason = part.finish_reason or sampled.finish_reason
        if part.token_ids and capture.first_token is None:
            capture.first_token = time.monotonic()
    capture.finished = output.finished


def _logprobs(part: CompletionOutput) -> list[float]:
    pairs = zip(part.token_ids, part.logprobs or [], strict=False)
    return [candidates[token].logprob for token, candidates in pairs if candidates is not None]
