"""Clients that applications use, unchanged, against the real engine: openai for Python and for Node, LangChain, curl.

Their programs lie in tests/clients. The npm package is installed as its lock file says, into a temporary directory.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.serving.conftest import EngineStack

pytestmark = pytest.mark.engine

PARTS = Path(__file__).parents[1] / "clients"
ASK: Any = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 8}


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Oslo", "Rome"]


def _told(command: list[str], directory: Path) -> Any:
    """The JSON that a program prints."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- openai for Python ------------------------------------------------------------------------------------------------


@pytest.fixture
def client(engine_stack: EngineStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=engine_stack.live.url + "/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_openai_parses_what_it_asked_for(client: openai.OpenAI) -> None:
    """`parse` with a pydantic model, as text and as a tool."""
    said = client.chat.completions.parse(**(ASK | {"max_tokens": 100}), response_format=Weather)
    assert said.choices[0].message.parsed is not None and said.choices[0].message.parsed.city in ("Oslo", "Rome")
    tool = openai.pydantic_function_tool(Weather)
    named: Any = {"type": "function", "function": {"name": "Weather"}}
    called = client.chat.completions.parse(**(ASK | {"max_tokens": 200}), tools=[tool], tool_choice=named)
    [call] = called.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)


def test_openai_accumulates_streams(client: openai.OpenAI) -> None:
    """Its stream helper ends with the completion that the chunks add up to, and that is then stored."""
    forced: Any = {"structured_outputs": {"choice": ["yes", "no"]}}  # a random model would be cut off by its length
    options: Any = {"stream_options": {"include_usage": True}, "extra_body": forced}
    with client.chat.completions.stream(**ASK, **options) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in events and events[-1] != "error"
    assert final.usage is not None and final.choices[0].message.content in ("yes", "no")
    stored = client.chat.completions.retrieve(final.id)
    assert stored.choices[0].message.content == final.choices[0].message.content
    assert client.chat.completions.delete(final.id).deleted


def test_a_call_of_a_tool_is_stored(client: openai.OpenAI) -> None:
    """As it was shown, whole or streamed; the tools too."""
    tool: Any = openai.pydantic_function_tool(Weather)
    named: Any = {"type": "function", "function": {"name": "Weather"}}
    fields = ASK | {"max_tokens": 200, "tools": [tool], "tool_choice": named}
    whole = client.chat.completions.create(**fields)
    with client.chat.completions.stream(**fields) as stream:
        streamed = stream.get_final_completion()
    for shown in (whole, streamed):
        stored = client.chat.completions.retrieve(shown.id)
        [call] = stored.choices[0].message.tool_calls or []
        [told] = shown.choices[0].message.tool_calls or []
        assert (call.id, call.function.name) == (told.id, "Weather")  # type: ignore[union-attr]
        assert call.function.arguments == told.function.arguments  # type: ignore[union-attr]
        assert stored.choices[0].finish_reason == shown.choices[0].finish_reason
        assert stored.to_dict()["tools"][0]["function"]["name"] == "Weather"  # type: ignore[index]


# --- openai for Node --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    directory = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "chat.mjs"):
        shutil.copy(PARTS / name, directory)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory, check=True, timeout=300)
    return directory


def test_openai_for_node(engine_stack: EngineStack, node_modules: Path) -> None:
    """Whole, streamed, tools, stored completions and errors, as the package hands them to an application."""
    said = _told(["node", "chat.mjs", engine_stack.live.url], node_modules)
    assert (said["whole"]["model"], said["whole"]["choices"]) == ("assistant@v0", 2)
    assert said["whole"]["usage"]["completion_tokens"] == 16
    assert said["headers"]["version"] == "0" and said["headers"]["request"].startswith("req_")
    assert (said["streamed"]["identities"], said["streamUsage"]) == (1, 8)
    assert said["streamed"]["text"]
    assert said["call"]["name"] == "weather" and said["call"]["city"] in ("Oslo", "Rome")
    assert said["stored"] == 2 and said["whole"]["id"] in said["listed"] and said["deleted"] is True
    assert said["errors"] == [
        ["NotFoundError", 404, "model", "model_not_found", True],
        ["BadRequestError", 400, "temperature", None, True],
        ["BadRequestError", 400, "audio", "unsupported_parameter", True],
    ]


# --- LangChain --------------------------------------------------------------------------------------------------------


def test_langchain(engine_stack: EngineStack) -> None:
    """ChatOpenAI: turns of all roles, streams with usage, tools, structured output; the version in its metadata."""
    said = _told([sys.executable, str(PARTS / "conversation.py"), engine_stack.live.url], PARTS)
    assert said["whole"] == ["assistant@v0", 8]
    assert said["fingerprint"].startswith("fp_")
    assert said["streamed"] == [True, 8]
    assert said["called"][0] == "Weather" and said["called"][1] in ("Oslo", "Rome")
    assert said["structured"] in ("Oslo", "Rome")


# --- curl -------------------------------------------------------------------------------------------------------------


def _curl(stack: EngineStack, path: str, *options: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    command = ["curl", "-sS", "--no-buffer", "--max-time", "60", *options, stack.live.url + path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_curl(engine_stack: EngineStack) -> None:
    """As the documents show it: an answer, a stream of events, what is stored of it, and its end."""
    whole = json.loads(_curl(engine_stack, "/v1/chat/completions", "--json", json.dumps(ASK)))
    assert whole["choices"][0]["finish_reason"] == "length"
    streamed = _curl(engine_stack, "/v1/chat/completions", "--json", json.dumps(ASK | {"stream": True}))
    assert streamed.startswith('data: {"id":"chatcmpl-') and streamed.endswith("data: [DONE]\n\n")
    one = f"/v1/chat/completions/{whole['id']}"
    assert json.loads(_curl(engine_stack, one))["choices"][0]["message"] | {"tool_calls": None} == {
        "role": "assistant",
        "content": whole["choices"][0]["message"]["content"],
        "tool_calls": None,
        "function_call": None,
        "refusal": None,
    }
    assert json.loads(_curl(engine_stack, one, "-X", "DELETE"))["deleted"] is True
    assert json.loads(_curl(engine_stack, one))["error"]["code"] == "completion_not_found"
