"""The chat routes over the fake engine: what callers see and what is recorded."""

import json
import socket
import threading
import time

import httpx
import pytest

from core import keys
from core.records import CompletionRecord
from serving.schemas import ChatBody
from tests.serving.conftest import FakeStack


def _record(stack: FakeStack, completion_id: str) -> CompletionRecord:
    return CompletionRecord.model_validate_json(stack.client.hget(keys.completion(completion_id), "record") or "")


def _settled(stack: FakeStack, completion_id: str) -> CompletionRecord:
    """The record once its chat has ended: what a client that hung up leaves is written a moment later."""
    stack.live.wait(lambda: stack.client.hget(keys.completion(completion_id), "state") != "streaming", timeout_s=10)
    return _record(stack, completion_id)


def test_every_answer_carries_its_version(stack: FakeStack) -> None:
    """Body and headers name the version and adapter; the alias appears nowhere."""
    response = stack.live.chat()
    assert response.status_code == 200
    residents = stack.live.serving.replica.residents
    assert residents is not None
    sha256 = residents.policies[0]
    assert response.json()["model"] == "assistant@v0"
    assert response.json()["system_fingerprint"] == f"fp_{sha256[:12]}"
    assert response.headers["x-policy-version"] == "0"
    assert response.headers["x-adapter-sha256"] == sha256
    assert response.headers["x-feedback-status"] == "recorded"


def test_the_record_holds_what_was_sampled(stack: FakeStack) -> None:
    """Text, token ids, log-probs, finish reason, rater and version lie in Redis when the answer arrives."""
    body = stack.live.chat(max_tokens=2, user="ann", safety_identifier="rater-1").json()
    record = _record(stack, body["id"])
    assert record.state == "complete"
    assert [message.content for message in record.messages] == ["A dog is"]
    assert record.prompt_token_ids == [1, 2, 3]
    assert record.choices[0].text == "assistant@v0 assistant@v0 "
    assert record.choices[0].token_ids == [0, 1]
    assert record.choices[0].logprobs == [-0.5, -0.5]
    assert record.choices[0].finish_reason == "length"
    assert (record.policy_version, record.assignment, record.propensity) == (0, "live", 1.0)
    assert record.rater == "rater-1"
    assert record.train
    assert 0 < stack.client.ttl(keys.completion(body["id"])) <= stack.settings.feedback_window_s


@pytest.mark.parametrize(
    ("fields", "rater"),
    [({"user": "ann"}, "ann"), ({"user": "ann", "safety_identifier": ""}, "ann"), ({"user": ""}, None), ({}, None)],
)
def test_an_empty_name_is_nobodys(stack: FakeStack, fields: dict[str, str], rater: str | None) -> None:
    """All who send none would else be one rater, whom no other endpoint knows."""
    assert _record(stack, stack.live.chat(**fields).json()["id"]).rater == rater


def test_a_record_is_complete_before_the_last_chunk(stack: FakeStack) -> None:
    """Whoever reads the chunk with the finish reason finds the complete record, even before `[DONE]`."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with httpx.stream("POST", stack.live.url + "/v1/chat/completions", json=body, timeout=30) as response:
        for line in response.iter_lines():
            if line and json.loads(line.removeprefix("data: "))["choices"][0]["finish_reason"]:
                record = _record(stack, json.loads(line.removeprefix("data: "))["id"])
                break
    assert (record.state, len(record.choices[0].token_ids)) == ("complete", 3)


def test_the_engine_does_not_wait_for_the_open_record(stack: FakeStack) -> None:
    """While a slow Redis writes the record the engine is at work; but no word leaves before the record is there."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    found: list[str] = []

    def read() -> None:
        with httpx.stream("POST", stack.live.url + "/v1/chat/completions", json=body, timeout=30) as response:
            first = next(line for line in response.iter_lines() if line)
            found.append(_record(stack, json.loads(first.removeprefix("data: "))["id"]).state)

    stack.client.client_pause(10_000, all=False)
    reader = threading.Thread(target=read)
    reader.start()
    stack.live.wait(lambda: stack.engine.running == 1, timeout_s=10)
    assert list(stack.client.scan_iter(keys.completion("*"))) == []
    time.sleep(0.3)
    assert found == []
    stack.client.client_unpause()
    reader.join()
    assert found in (["streaming"], ["complete"])


@pytest.mark.parametrize("by_default", [True, False])
@pytest.mark.parametrize("store", [None, True, False])
@pytest.mark.parametrize("train", [None, True, False])
def test_consent_has_one_rule(by_default: bool, store: bool | None, train: bool | None) -> None:
    """`store: false` is a no; else `train` decides, else `store: true` is a yes, else the deployment's default."""
    body = ChatBody(model="assistant", messages=[{}], store=store, train=train)
    if store is False:
        expected = False
    elif train is not None:
        expected = train
    else:
        expected = store is True or by_default
    assert body.may_train(by_default=by_default) is expected


@pytest.mark.parametrize(
    ("fields", "train"),
    [({}, True), ({"train": False}, False), ({"store": True, "train": False}, False), ({"store": False}, False)],
)
def test_consent_is_recorded(stack: FakeStack, fields: dict[str, bool], train: bool) -> None:
    """What is not trained on is kept all the same, unless the caller said `store: false`."""
    record = _record(stack, stack.live.chat(**fields).json()["id"])
    assert (record.train, bool(record.messages)) == (train, fields.get("store") is not False)


def test_the_callers_labels_are_recorded(stack: FakeStack) -> None:
    """`metadata` lies in the record; neither it nor consent reaches the engine."""
    labels = {"tenant": "acme", "experiment": "7"}
    record = _record(stack, stack.live.chat(metadata=labels, store=True, train=True).json()["id"])
    assert record.metadata == labels
    assert record.finished is not None and record.finished >= record.created
    assert not {"metadata", "store", "train"} & set(stack.engine.seen[0])


@pytest.mark.parametrize(
    "metadata", [{"a": 1}, {"k" * 65: "v"}, {"k": "v" * 513}, {str(number): "v" for number in range(17)}]
)
def test_labels_have_openais_limits(stack: FakeStack, metadata: dict[str, object]) -> None:
    """Sixteen texts, names of 64 characters, values of 512."""
    response = stack.live.chat(metadata=metadata)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("metadata")


def test_store_false_keeps_no_text(stack: FakeStack) -> None:
    """A completion can be voted on, but neither words, ids nor labels of it are kept, nor its prompt for the gate."""
    completion_id = stack.live.chat("a secret", store=False, metadata={"a secret": "x"}).json()["id"]
    record = _record(stack, completion_id)
    assert (record.messages, record.prompt_token_ids, record.metadata) == ([], [], {})
    assert [(choice.text, choice.token_ids, choice.logprobs) for choice in record.choices] == [("", [], None)]
    assert "a secret" not in json.dumps(stack.client.hgetall(keys.completion(completion_id)))
    assert stack.client.xlen(keys.PROMPTS) == 0


def test_consented_prompts_are_kept_for_the_gate(stack: FakeStack) -> None:
    """One stream entry per complete chat, with the messages, the ids that the engine saw, and whose chat it was."""
    stack.live.chat("A dog is", user="user-7")
    stack.live.chat("A dog is")
    entries = [json.loads(fields["prompt"]) for _, fields in stack.client.xrange(keys.PROMPTS)]
    expected = {"messages": [{"role": "user", "content": "A dog is"}], "prompt_token_ids": [1, 2, 3]}
    assert entries == [expected | {"rater": "user-7"}, expected | {"rater": None}]


def test_votes_need_not_read_the_whole_record(stack: FakeStack) -> None:
    """Beside the record lies its outline, from the first token on: the same facts without the bulk."""
    completion_id = stack.live.chat("A dog is", user="user-7").json()["id"]
    outline = stack.client.hget(keys.completion(completion_id), "outline")
    assert outline == _record(stack, completion_id).outline()
    assert "A dog is" not in outline


def test_parts_of_text_are_one_text(stack: FakeStack) -> None:
    """As a record, and so in training."""
    text = [{"type": "text", "text": "A dog"}, {"type": "text", "text": " is"}]
    body = {"model": "assistant", "messages": [{"role": "user", "content": text}]}
    record = _record(stack, stack.live.post("/v1/chat/completions", body).json()["id"])
    assert ([message.content for message in record.messages], record.train) == (["A dog is"], True)


def test_the_callers_ids_are_only_labels(stack: FakeStack) -> None:
    """Two callers with one X-Request-Id and one body request_id get two completions; the header is echoed."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "request_id": "mine"}
    headers = {"X-Request-Id": "same"}
    first, second = (stack.live.post("/v1/chat/completions", body, headers=headers) for _ in range(2))
    assert first.json()["id"] != second.json()["id"]
    assert first.headers["x-request-id"] == second.headers["x-request-id"] == "same"
    assert _record(stack, first.json()["id"]).state == _record(stack, second.json()["id"]).state == "complete"


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ({"model": "gpt-4", "messages": [{"role": "user", "content": "a"}]}, 404, "model", "model_not_found"),
        ({"model": "assistant@v7", "messages": [{"role": "user", "content": "a"}]}, 404, "model", "model_not_found"),
        ({"messages": [{"role": "user", "content": "a"}]}, 400, "model", None),
        ({"model": "assistant", "messages": []}, 400, "messages", None),
        ({"model": "assistant"}, 400, "messages", None),
        ({"model": "assistant", "messages": [{"role": "user", "content": "a"}], "store": "x"}, 400, "store", None),
        (
            {"model": "assistant", "messages": [{"role": "user", "content": "a"}], "temperature": -1},
            400,
            "temperature",
            None,
        ),
    ],
)
def test_errors_have_openais_shape(
    stack: FakeStack, body: dict[str, object], status: int, param: str, code: str | None
) -> None:
    """One `error` object with message, type, param and code; never FastAPI's `detail`. Nothing stays behind."""
    response = stack.live.post("/v1/chat/completions", body)
    assert response.status_code == status
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert stack.live.serving.replica.in_flight == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/comparisons"])
def test_half_a_surrogate_pair_is_no_text(stack: FakeStack, path: str) -> None:
    """JSON can spell it and no store can hold it: 400, not a mistake of ours."""
    body = {"model": "assistant"} if path.endswith("completions") else {}
    content = json.dumps(body | {"messages": [{"role": "user", "content": "\ud800"}]})
    response = httpx.post(stack.live.url + path, content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


def test_a_broken_stream_ends_with_an_error_event(stack: FakeStack) -> None:
    """What was sent stays sent; then comes a typed error instead of `[DONE]`, and the record says failed."""
    stack.engine.fail_after = 2
    lines = stack.live.chat(stream=True).text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert [event["choices"][0]["delta"]["content"] for event in events[:2]] == ["assistant@v0 "] * 2
    assert events[2]["error"]["code"] == "engine_error"
    assert len(events) == 3
    record = _settled(stack, events[0]["id"])
    assert (record.state, record.choices[0].token_ids) == ("failed", [0, 1])


def test_a_dead_engine_is_a_typed_503(stack: FakeStack) -> None:
    """With Retry-After, and the replica is not ready."""
    stack.engine.start = _never  # type: ignore[method-assign]
    stack.engine.alive = False
    response = stack.live.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_unavailable")
    assert int(response.headers["retry-after"]) > 0
    assert not stack.live.serving.ready()


async def _never(*, max_rank: int) -> None:
    raise RuntimeError("no engine today")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_the_engine(stack: FakeStack, stream: bool) -> None:
    """The engine's request is cancelled, the version is free again, the record says aborted with what was seen."""
    stack.engine.gate.clear()
    body = {"model": "assistant", "messages": [{"role": "user", "content": "a"}], "stream": stream}
    payload = json.dumps(body).encode()
    host, port = stack.live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(payload)}"
        client.sendall(head.encode() + b"\r\n\r\n" + payload)
        stack.live.wait(lambda: stack.engine.running == 1, timeout_s=10)
    stack.live.wait(lambda: stack.engine.running == 0, timeout_s=10)
    stack.live.wait(lambda: stack.live.serving.replica.in_flight == 0, timeout_s=10)
    assert stack.engine.cancelled == 1
    stack.live.call(stack.live.serving.chats.drain())
    [key] = stack.client.scan_iter(keys.completion("*"))
    assert _settled(stack, key.removeprefix(keys.completion(""))).state == "aborted"


def test_a_client_that_hangs_up_amid_a_stream_leaves_what_it_saw(stack: FakeStack) -> None:
    """The aborted record holds exactly the tokens that were sampled before."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": "a"}], "stream": True, "max_tokens": 100_000}
    with httpx.stream("POST", stack.live.url + "/v1/chat/completions", json=body, timeout=30) as response:
        first = json.loads(next(line for line in response.iter_lines() if line).removeprefix("data: "))
    stack.live.wait(lambda: stack.engine.running == 0, timeout_s=10)
    record = _settled(stack, first["id"])
    assert record.state == "aborted"
    assert 0 < len(record.choices[0].token_ids) < 100_000
    assert len(record.choices[0].token_ids) == len(record.choices[0].logprobs or [])


def test_models_are_listed_as_openai_does(stack: FakeStack) -> None:
    """The alias first, then each resident version."""
    version = stack.promote()
    stack.live.wait_for_live(version, timeout_s=20)
    listed = httpx.get(stack.live.url + "/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["assistant", "assistant@v0", "assistant@v1"]
    assert {model["owned_by"] for model in listed["data"]} == {"plumbline"}
    assert [httpx.get(f"{stack.live.url}/v1/models/{each['id']}").json() for each in listed["data"]] == listed["data"]
    unknown = httpx.get(stack.live.url + "/v1/models/gpt-4")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_chat_outlives_redis(stack: FakeStack) -> None:
    """Redis dies: answers go on, say that they cannot be voted on, and cost no waiting; it returns: recorded again."""
    stack.store.stop()
    assert stack.live.chat().status_code == 200
    stack.live.wait(lambda: not stack.live.serving.records.recording, timeout_s=10)
    response = stack.live.chat()
    assert (response.status_code, response.headers["x-feedback-status"]) == (200, "unavailable")
    assert stack.live.serving.ready()
    stack.store.start()
    stack.live.wait(lambda: stack.live.serving.records.recording, timeout_s=10)
    assert stack.live.chat().headers["x-feedback-status"] == "recorded"


def test_a_slow_redis_is_waited_for(stack: FakeStack) -> None:
    """A disk that holds Redis up for less than two seconds costs no answer its vote, neither that one nor the next."""
    stack.store.freeze()
    thaw = threading.Timer(1.0, stack.store.thaw)
    thaw.start()
    assert stack.live.chat().headers["x-feedback-status"] == "recorded"
    thaw.join()
    assert stack.live.chat().headers["x-feedback-status"] == "recorded"


def test_a_frozen_redis_delays_nobody_twice(stack: FakeStack) -> None:
    """A Redis that takes connections and never answers is given up after one time-out."""
    stack.store.freeze()
    stack.live.wait(lambda: not stack.live.serving.records.recording, timeout_s=10)
    calls_before = time.monotonic()
    responses = [stack.live.chat() for _ in range(5)]
    assert {response.headers["x-feedback-status"] for response in responses} == {"unavailable"}
    stack.store.thaw()
    assert time.monotonic() - calls_before < 60  # a hang guard, not a benchmark
    stack.live.wait(lambda: stack.live.serving.records.recording, timeout_s=10)


def test_a_final_write_that_was_missed_is_made_up_for(stack: FakeStack) -> None:
    """Redis restarts while an answer streams: the answer arrives, and its record is complete once Redis is back."""
    stack.engine.gate.clear()
    body = {"model": "assistant", "messages": [{"role": "user", "content": "a"}], "stream": True}
    with httpx.Client(timeout=60) as client:
        request = client.build_request("POST", stack.live.url + "/v1/chat/completions", json=body)
        stack.live.wait(lambda: stack.live.serving.records.recording)
        texts: list[str] = []
        thread = threading.Thread(target=lambda: texts.append(client.send(request).text))
        thread.start()
        stack.live.wait(lambda: stack.engine.running == 1, timeout_s=10)
        stack.live.call(stack.live.serving.chats.drain())  # the open record lies in Redis
        stack.store.stop()
        stack.live.call(_set(stack))
        thread.join(timeout=30)
    assert texts[0].endswith("data: [DONE]\n\n")
    completion_id = json.loads(texts[0].split("\n\n")[0].removeprefix("data: "))["id"]
    stack.store.start()
    assert _settled(stack, completion_id).state == "complete"


async def _set(stack: FakeStack) -> None:
    stack.engine.gate.set()


def test_a_full_redis_takes_no_new_completions(stack: FakeStack) -> None:
    """At 80 % of maxmemory recording stops, so that votes on older completions still find room."""
    used = int(stack.client.info("memory")["used_memory"])
    stack.client.config_set("maxmemory", int(used / 0.9))
    stack.live.wait(lambda: not stack.live.serving.records.recording, timeout_s=10)
    assert stack.live.chat().headers["x-feedback-status"] == "unavailable"
    stack.client.config_set("maxmemory", used * 10)
    stack.live.wait(lambda: stack.live.serving.records.recording, timeout_s=10)
    assert stack.live.chat().headers["x-feedback-status"] == "recorded"
