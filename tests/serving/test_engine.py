"""The real engine behind the real app: OpenAI's client, what is recorded, and the guards G1 to G8 of the vLLM notes."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from transformers import AutoTokenizer

from core import keys, registry
from core.records import Comparison, CompletionRecord
from tests.serving import adapters, policies, tiny
from tests.serving.conftest import EngineStack

pytestmark = pytest.mark.engine

ASK: Any = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 8}


@pytest.fixture(scope="module")
def client(engine_session: EngineStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=engine_session.live.url + "/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def _record(stack: EngineStack, completion_id: str) -> CompletionRecord:
    return CompletionRecord.model_validate_json(stack.client.hget(keys.completion(completion_id), "record") or "")


# --- OpenAI's client --------------------------------------------------------------------------------------------------


def test_an_answer_is_recorded_as_it_was_sampled(engine_stack: EngineStack, client: openai.OpenAI) -> None:
    """The stored ids decode to the text that was sent, prompt ids are the template's, log-probs are the sampler's."""
    words = [tiny.marker_token(engine_stack.base, number) for number in range(4)]
    options: Any = {"logprobs": True, "temperature": 0.7, "extra_body": {"allowed_token_ids": words}}
    answer = client.chat.completions.create(**ASK, **options)
    record = _record(engine_stack, answer.id)
    tokenizer = AutoTokenizer.from_pretrained(engine_stack.base)
    rendered = tokenizer.apply_chat_template(ASK["messages"], add_generation_prompt=True)["input_ids"]
    assert record.prompt_token_ids == rendered
    [choice] = record.choices
    assert tokenizer.decode(choice.token_ids, skip_special_tokens=True) == answer.choices[0].message.content
    shown = answer.choices[0].logprobs
    assert shown is not None and shown.content is not None
    assert [token.logprob for token in shown.content] == choice.logprobs
    assert record.sampling["temperature"] == 0.7
    assert answer.model == "assistant@v0"
    assert answer.usage is not None and answer.usage.completion_tokens == len(choice.token_ids)


def test_the_end_of_text_token_is_kept(engine_stack: EngineStack, client: openai.OpenAI) -> None:
    """Forced to stop at once, the record holds the end-of-text id though the text is empty."""
    end = AutoTokenizer.from_pretrained(engine_stack.base).eos_token_id
    answer = client.chat.completions.create(**ASK, logit_bias={str(end): 100})
    [choice] = _record(engine_stack, answer.id).choices
    assert (choice.text, choice.token_ids, choice.finish_reason) == ("", [end], "stop")


def test_streams_keep_one_identity_and_report_usage(engine_stack: EngineStack, client: openai.OpenAI) -> None:
    """Id, created and model are the same in every chunk; the last one has the usage; no fingerprint of vLLM."""
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert {chunk.system_fingerprint for chunk in chunks} == {None}
    usage, record = chunks[-1].usage, _record(engine_stack, chunks[0].id)
    assert usage is not None and usage.completion_tokens == len(record.choices[0].token_ids)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == record.choices[0].text


def test_a_vote_finds_its_record_at_the_last_chunk(engine_stack: EngineStack, client: openai.OpenAI) -> None:
    """The record is complete when the client sees the finish reason."""
    for chunk in client.chat.completions.create(**ASK, stream=True):
        if chunk.choices[0].finish_reason:
            assert _record(engine_stack, chunk.id).state == "complete"
            break


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_are_recorded_apart(engine_stack: EngineStack, client: openai.OpenAI, stream: bool) -> None:
    """n=2 gives two choices with their own ids and texts; log-probs that nobody asked for are not computed."""
    answer = client.chat.completions.create(**ASK, n=2, stream=stream)
    completion_id = [chunk.id for chunk in answer].pop() if stream else answer.id
    record = _record(engine_stack, completion_id)
    assert [choice.index for choice in record.choices] == [0, 1]
    assert record.choices[0].token_ids != record.choices[1].token_ids
    assert [choice.logprobs for choice in record.choices] == [None, None]


def test_models_are_listed(client: openai.OpenAI) -> None:
    """The alias and the resident versions; the base's internal name is no model."""
    names = {model.id for model in client.models.list()}
    assert {"assistant", "assistant@v0"} <= names
    assert all(name.startswith("assistant") for name in names)


@pytest.mark.parametrize("model", ["gpt-4", "assistant@v99", "plumbline-base", "assistant@v0 "])
def test_unknown_models_are_not_found(engine_stack: EngineStack, client: openai.OpenAI, model: str) -> None:
    """G6: what is not resident is a 404; it never reaches the engine, which stays alive."""
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(**(ASK | {"model": model}))
    assert raised.value.code == "model_not_found"
    assert engine_stack.live.serving.ready()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_p": 0}, "top_p"),
        ({"logprobs": True, "top_logprobs": 500}, "logprobs"),
        ({"extra_body": {"use_beam_search": True}}, "use_beam_search"),
        ({"n": 1000}, "n"),
        ({"messages": [{"role": "user", "content": "dog " * 2000}]}, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_name_their_field(client: openai.OpenAI, fields: Any, param: str, stream: bool) -> None:
    """400 in OpenAI's shape before any byte of a stream; a prompt over max_model_len too."""
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**(ASK | fields), stream=stream)
    assert (raised.value.status_code, raised.value.param) == (400, param)


def test_one_request_id_twice_is_two_completions(engine_stack: EngineStack, client: openai.OpenAI) -> None:
    """Neither header nor body id of a caller names a completion, also while both run."""
    with ThreadPoolExecutor(2) as pool:
        options: Any = {"extra_headers": {"X-Request-Id": "same"}, "extra_body": {"request_id": "same"}}
        calls = [pool.submit(client.chat.completions.create, **ASK, **options) for _ in range(2)]
        ids = {call.result().id for call in calls}
    assert len(ids) == 2
    assert {_record(engine_stack, completion_id).state for completion_id in ids} == {"complete"}


def test_a_seed_reproduces(client: openai.OpenAI) -> None:
    """The same seed gives the same words, another one others."""
    first, again, other = (
        client.chat.completions.create(**(ASK | {"seed": seed, "max_tokens": 16})).choices[0].message.content
        for seed in (11, 11, 12)
    )
    assert first == again
    assert first != other


def test_a_client_that_hangs_up_frees_the_real_engine(engine_stack: EngineStack, client: openai.OpenAI) -> None:
    """The record says aborted, with ids and log-probs of what was sampled; nothing keeps running."""
    options: Any = {"logprobs": True, "extra_body": {"ignore_eos": True}}
    stream = client.chat.completions.create(**(ASK | {"max_tokens": 400}), stream=True, **options)
    completion_id = next(iter(stream)).id
    stream.close()
    key = keys.completion(completion_id)
    engine_stack.live.wait(lambda: engine_stack.client.hget(key, "state") == "aborted", timeout_s=30)
    [choice] = _record(engine_stack, completion_id).choices
    assert 0 < len(choice.token_ids) == len(choice.logprobs or []) < 400
    llm: Any = engine_stack.live.serving._engine._llm  # type: ignore[attr-defined]
    engine_stack.live.wait(lambda: llm.get_num_unfinished_requests() == 0, timeout_s=30)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"stream": True}),
        ("/v1/chat/completions", {"n": 4}),
        ("/v1/chat/completions", {"n": 4, "stream": True}),
        ("/v1/comparisons", {}),
        ("/v1/comparisons", {"n": 4, "stream": True}),
    ],
)
def test_whoever_hangs_up_frees_the_engine(engine_stack: EngineStack, path: str, fields: Any) -> None:
    """Whole or streamed, several choices, sides of a comparison: nothing runs on, no version and no place is held."""
    body: Any = {"messages": ASK["messages"], "max_tokens": 480} | fields
    if path == "/v1/chat/completions":
        body |= {"model": "assistant", "ignore_eos": True}
    llm: Any = engine_stack.live.serving._engine._llm  # type: ignore[attr-defined]
    serving = engine_stack.live.serving
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=engine_stack.live.url, timeout=120) as client:
        waiting = pool.submit(_take_a_little, client, path, body)
        engine_stack.live.wait(lambda: llm.get_num_unfinished_requests() > 0, timeout_s=30)
        assert waiting.result(60)
    engine_stack.live.wait(lambda: llm.get_num_unfinished_requests() == 0, timeout_s=30)
    engine_stack.live.wait(lambda: serving.replica.in_flight == 0, timeout_s=30)
    assert serving.chats._admission.inside == 0


def _take_a_little(client: httpx.Client, path: str, body: Any) -> bool:
    """Asks, and hangs up: after the first bytes of a stream, or after half a second. Whether it did so in time."""
    try:
        with client.stream("POST", path, json=body, timeout=0.5 if not body.get("stream") else 60) as response:
            next(response.iter_raw(), b"")
            return bool(body.get("stream"))
    except httpx.ReadTimeout:
        return True


def test_two_drafts_of_one_policy_differ(engine_stack: EngineStack) -> None:
    """A comparison samples twice, also with a seed; its answer tells nothing of the policy."""
    body = {"messages": ASK["messages"], "max_tokens": 16, "seed": 3}
    response = engine_stack.live.post("/v1/comparisons", body)
    assert response.status_code == 201
    left, right = response.json()["sides"]
    assert left["content"] != right["content"]
    assert "@v" not in response.text + str(response.headers)


def test_four_drafts_stream_side_by_side(engine_stack: EngineStack) -> None:
    """What the events add up to is what was recorded; sides are named, versions and completions are not."""
    body = {"messages": ASK["messages"], "max_tokens": 16, "n": 4, "stream": True}
    response = engine_stack.live.post("/v1/comparisons", body)
    assert response.status_code == 201
    *lines, done = response.text.strip().split("\n\n")
    started, *events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert (done, started["sides"]) == ("data: [DONE]", ["a", "b", "c", "d"])
    record = engine_stack.client.hget(keys.comparison(started["id"]), "record")
    sides = zip("abcd", Comparison.model_validate_json(record or "").completion_ids, strict=True)
    for name, [choice] in ((name, _record(engine_stack, completion_id).choices) for name, completion_id in sides):
        assert "".join(event.get("delta", "") for event in events if event["side"] == name) == choice.text
        assert {"side": name, "finish_reason": choice.finish_reason} in events
    assert "@v" not in response.text + str(response.headers) and "chatcmpl" not in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_comparison_that_the_engine_refuses_is_forgotten(engine_stack: EngineStack, stream: bool) -> None:
    """A prompt over max_model_len is found late, by the engine: 400 all the same, and no comparison stays."""
    body = {"messages": [{"role": "user", "content": "dog " * 2000}], "stream": stream}
    before = set(engine_stack.client.scan_iter(keys.comparison("*")))
    response = engine_stack.live.post("/v1/comparisons", body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")
    assert set(engine_stack.client.scan_iter(keys.comparison("*"))) == before
    assert engine_stack.live.serving.replica.in_flight == 0


# --- the guards -------------------------------------------------------------------------------------------------------


def test_the_base_is_not_given_a_neighbours_adapter(engine_stack: EngineStack) -> None:
    """G1: log-probs of the base and of the zero adapter are the same alone and in a batch with a marker adapter."""
    stack = engine_stack
    marker = adapters.marker(stack.base, tiny.marker_token(stack.base, 1))
    sha256 = adapters.publish(stack.artifacts, stack.base, marker)
    engine = stack.live.serving._engine
    tokens = [1, 40, 41, 42, 43, 44, 45, 46, 47, 48]

    async def mixed() -> tuple[list[float], list[list[float]]]:
        alone = await engine.score(None, tokens)
        await engine.load("test-marker", stack.artifacts / "adapters" / sha256)
        names = [None, "test-marker", "assistant@v0", "test-marker", None]
        batch = await asyncio.gather(*(engine.score(name, tokens) for name in names))
        await engine.unload("test-marker")
        return alone, batch

    alone, batch = stack.live.call(mixed())
    for index in (0, 2, 4):
        assert batch[index] == pytest.approx(alone, abs=1e-4)
    assert batch[1] != pytest.approx(alone, abs=0.1)


def test_the_worker_runs_our_operators(engine_stack: EngineStack) -> None:
    """G2: asked over RPC, the worker names our functions."""
    llm: Any = engine_stack.live.serving._engine._llm  # type: ignore[attr-defined]
    [names] = engine_stack.live.call(llm.collective_rpc("plumbline_lora_operators"))
    assert {name.rsplit(".", 1)[0] for name in names} == {"serving.lora_cpu"}


def test_a_tiny_prompt_is_safe_after_the_warm_up(engine_stack: EngineStack) -> None:
    """G4: one- and two-token batches, which kill a cold CPU worker, are answered."""
    engine = engine_stack.live.serving._engine
    assert engine_stack.live.call(engine.score(None, [5])) == []
    assert len(engine_stack.live.call(engine.score(None, [5, 6]))) == 1


def test_seeds_at_32_streams_are_not_fatal(engine_stack: EngineStack) -> None:
    """G8: 32 seeded streams of different lengths at once, twice: all finish, each seed gives its words again."""

    async def storm() -> list[str]:
        async with httpx.AsyncClient(base_url=engine_stack.live.url, timeout=120) as client:
            bodies = [
                ASK | {"messages": [{"role": "user", "content": "a dog " * (1 + seed % 20)}], "seed": seed}
                for seed in range(32)
            ]
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies))
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json()["choices"][0]["message"]["content"] for answer in answers]

    assert asyncio.run(storm()) == asyncio.run(storm())
    assert engine_stack.live.serving.ready()


@pytest.mark.parametrize("damage", ["truncated", "not a number", "another base"])
def test_a_damaged_adapter_never_meets_traffic(engine_stack: EngineStack, damage: str) -> None:
    """G5, G7: it is refused before the engine sees it; the old policy stays, and says why the new one did not come."""
    import torch

    stack, state = engine_stack, registry.state(engine_stack.client)
    assert state is not None
    pairs = adapters.small(stack.base, seed=len(damage))
    if damage == "not a number":
        name = next(iter(pairs))
        pairs[name] = (pairs[name][0] * torch.nan, pairs[name][1])
    sha256 = adapters.publish(stack.artifacts, stack.base, pairs)
    directory = stack.artifacts / "adapters" / sha256
    if damage == "truncated":
        weights = directory / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    if damage == "another base":
        manifest = directory / "plumbline.json"
        manifest.write_text(manifest.read_text().replace('"base_sha256":"', '"base_sha256":"f'))
    _promote_and_expect_refusal(stack, sha256, live=state.live)


def test_a_lost_layer_is_caught_by_the_probe(engine_stack: EngineStack) -> None:
    """An adapter whose published file lost one layer's change is verified but fails its probe; it is not served."""
    stack, state = engine_stack, registry.state(engine_stack.client)
    assert state is not None
    whole = adapters.small(stack.base, seed=77)
    damaged = {name: (a, b * 0 if ".layers.1." in name else b) for name, (a, b) in whole.items()}
    parent = adapters.zeros(stack.base, ("o_proj", "down_proj"))
    sha256 = adapters.publish(stack.artifacts, stack.base, damaged, scored=whole, parent=parent)
    _promote_and_expect_refusal(stack, sha256, live=state.live)


def _promote_and_expect_refusal(stack: EngineStack, sha256: str, *, live: int) -> None:
    policies.promote(stack.client, sha256)
    stack.live.wait(lambda: any("refused" in note for note in stack.live.serving.readiness().notes), timeout_s=60)
    answer = stack.live.chat()
    assert (answer.status_code, answer.json()["model"]) == (200, f"assistant@v{live}")
    registry.rollback(stack.client, actor="test", reason="refused")
    stack.live.wait(lambda: not stack.live.serving.readiness().notes, timeout_s=60)
    stack.live.wait_for_live(live, timeout_s=60)


def test_a_swap_changes_the_answer_to_the_same_prompt(engine_stack: EngineStack) -> None:
    """Before: the old policy's words; after the flip: the new one's; the pinned old version still answers as before."""
    stack = engine_stack
    before = stack.live.chat(temperature=0).json()["choices"][0]["message"]["content"]
    pairs = adapters.marker(stack.base, tiny.marker_token(stack.base, 5))
    version = policies.promote(stack.client, adapters.publish(stack.artifacts, stack.base, pairs))
    stack.live.wait_for_live(version, timeout_s=60)
    after = stack.live.chat(temperature=0).json()
    assert (after["model"], after["choices"][0]["message"]["content"]) == (f"assistant@v{version}", "<marker5>" * 4)
    pinned = stack.live.chat(temperature=0, model="assistant@v0").json()["choices"][0]["message"]["content"]
    assert pinned == before
    registry.rollback(stack.client, actor="test", reason="test")
    stack.live.wait_for_live(0, timeout_s=60)
    assert stack.live.chat(temperature=0).json()["choices"][0]["message"]["content"] == before


def test_a_parent_scored_probe_passes_with_slope_one(engine_stack: EngineStack) -> None:
    """An adapter that is served as it was published goes live."""
    stack = engine_stack
    pairs = adapters.small(stack.base, seed=5)
    parent = adapters.zeros(stack.base, ("o_proj", "down_proj"))
    version = policies.promote(stack.client, adapters.publish(stack.artifacts, stack.base, pairs, parent=parent))
    stack.live.wait_for_live(version, timeout_s=60)
    assert Path(stack.settings.directory / "replica-cache" / "last-good.json").exists()
    registry.rollback(stack.client, actor="test", reason="test")
    stack.live.wait_for_live(0, timeout_s=60)
