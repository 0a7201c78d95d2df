"""The three sides of benchmarks/feedback.py: what is behind each, how it is asked, and what it stored."""

import asyncio
import itertools
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import redis

from benchmarks import load
from core import keys
from core.records import Choice, CompletionRecord, CompletionState, Message, Target, new_id, now
from core.redis import connect, connect_async
from core.settings import Settings
from feedback import store
from feedback.events import Ballot
from plumbline import embedded_redis
from serving.completions import CompletionLog

PROMPT_TOKENS, ANSWER_TOKENS = 30, 40
_WINDOW_S = Settings.model_fields["feedback_window_s"].default
_AT_ONCE = 8
_FEEDBACK_ID = re.compile(rb'"id":"(fb_[0-9a-f]{32})"')


@dataclass(kw_only=True, slots=True)
class Side:
    """One side. Each call of `requests` gives votes that nobody has cast yet."""

    name: str
    client: redis.Redis
    """Looks at the side's Redis between the rounds."""
    connect: load.Connect
    end: load.End
    requests: Callable[[int], list[bytes]]
    acknowledged: Callable[[bytes], str]
    """The id in an answer; raises SystemExit if it is no acknowledgement."""
    stream: str
    stored: Callable[[str, dict[str, str]], str]
    """The id of a stream entry."""
    bytes_per_completion: float = 0.0
    before_votes: int = 0
    """Redis memory, in bytes."""
    last: str = field(default="0-0")
    """The newest entry that was checked."""

    def turn(self, connections: int, count: int) -> load.Load:
        """Casts votes; a load counts only if what was stored is exactly what was acknowledged.

        Raises:
            SystemExit: it is not.
        """
        requests = self.requests(count)
        done = asyncio.run(load.run(self.connect, requests, connections=connections, end=self.end))
        acknowledged = sorted(self.acknowledged(answer) for answer in done.answers)
        entries = cast(list[tuple[str, dict[str, str]]], self.client.xrange(self.stream, min=f"({self.last}"))
        stored = sorted(self.stored(entry, fields) for entry, fields in entries)
        if stored != acknowledged or len(set(stored)) != count:
            raise SystemExit(f"{self.name}: {len(stored)} votes stored, {len(acknowledged)} acknowledged")
        self.last = entries[-1][0]
        return done

    def memory_of_votes(self) -> int:
        return _memory(self.client) - self.before_votes


def open_sides(stack: ExitStack, directory: Path, *, completions: int) -> list[Side]:
    """All three, ready; `stack` ends their processes."""
    urls = {name: stack.enter_context(_redis(directory / name)) for name in ("feedback", "plain", "script")}
    ids = [new_id("chatcmpl-") for _ in range(completions)]
    sides = [
        _http_side(stack, "feedback", urls["feedback"], ids),
        _http_side(stack, "plain", urls["plain"], ids),
        _script_side(urls["script"], ids),
    ]
    for side in sides:
        _check_durable(side.client)
        before = _memory(side.client)
        if side.name != "plain":
            asyncio.run(_record(urls[side.name], ids))
        side.before_votes = _memory(side.client)
        side.bytes_per_completion = (side.before_votes - before) / completions
    return sides


# --- over HTTP --------------------------------------------------------------------------------------------------------


def _http_side(stack: ExitStack, name: str, url: str, ids: Sequence[str]) -> Side:
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    stack.enter_context(_server(name, url, listening))
    host, port = listening.getsockname()
    numbers = itertools.count()

    async def open_connection(protocol: Callable[[], asyncio.Protocol]) -> Any:
        return await asyncio.get_running_loop().create_connection(protocol, host, port)

    def stored(entry: str, fields: dict[str, str]) -> str:
        return str(json.loads(fields["event"])["id"]) if name == "feedback" else entry

    return Side(
        name=name,
        client=connect(url),
        connect=open_connection,
        end=load.http_end,
        requests=lambda count: [
            load.post("/v1/feedback", json.dumps(_body(ids, number))) for number in itertools.islice(numbers, count)
        ],
        acknowledged=_acknowledged,
        stream=keys.FEEDBACK if name == "feedback" else "votes",
        stored=stored,
    )


@contextmanager
def _server(name: str, url: str, listening: socket.socket) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.vote_servers", name, url, str(listening.fileno())]
    process = subprocess.Popen(command, pass_fds=[listening.fileno()])
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _body(ids: Sequence[str], number: int) -> dict[str, Any]:
    """The `number`-th vote: on each completion in turn, by a rater of its own."""
    target = {"type": "completion", "id": ids[number % len(ids)]}
    return {"target": target, "kind": "thumb", "value": 1, "rater": {"id": f"rater-{number}"}}


def _acknowledged(answer: bytes) -> str:
    if not answer.startswith(b"HTTP/1.1 201 "):
        raise SystemExit(f"a vote was refused: {answer!r}")
    return str(json.loads(answer[answer.index(b"\r\n\r\n") :])["id"])


# --- bare Redis -------------------------------------------------------------------------------------------------------


def _script_side(url: str, ids: Sequence[str]) -> Side:
    numbers, client = itertools.count(), connect(url)

    async def open_connection(protocol: Callable[[], asyncio.Protocol]) -> Any:
        return await asyncio.get_running_loop().create_unix_connection(protocol, url.removeprefix("unix://"))

    def acknowledged(answer: bytes) -> str:
        found = _FEEDBACK_ID.search(answer)
        if not answer.startswith(b"*2\r\n$3\r\nnew\r\n") or found is None:
            raise SystemExit(f"a vote was refused: {answer!r}")
        return found[1].decode()

    return Side(
        name="script",
        client=client,
        connect=open_connection,
        end=load.resp_end,
        requests=lambda count: asyncio.run(_commands(client, ids, itertools.islice(numbers, count))),
        acknowledged=acknowledged,
        stream=keys.FEEDBACK,
        stored=lambda _, fields: str(json.loads(fields["event"])["id"]),
    )


class _Written(Exception):
    """Instead of waiting for Redis: the command that would have been sent."""


class _Scribe:
    """Stands where the API's Redis client stands, and writes down the script's command instead of sending it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._digests: dict[str, str] = {}

    def register_script(self, text: str) -> Callable[..., None]:
        if text not in self._digests:
            self._digests[text] = cast(str, self._client.script_load(text))
        digest = self._digests[text]

        def script(*, keys: Sequence[str], args: Sequence[str | int]) -> None:
            raise _Written(load.resp(["EVALSHA", digest, len(keys), *keys, *args]))

        return script


async def _commands(client: redis.Redis, ids: Sequence[str], numbers: Iterator[int]) -> list[bytes]:
    """What the API would send to Redis for these votes."""
    scribe, commands = cast(Any, _Scribe(client)), []
    for number in numbers:
        body = _body(ids, number)
        ballot = Ballot(
            id=new_id("fb_"),
            target=Target(**body["target"]),
            kind=body["kind"],
            value=body["value"],
            rater=body["rater"]["id"],
        )
        try:
            await store.vote(scribe, ballot, idempotency_key=None, window_s=_WINDOW_S)
        except _Written as written:
            commands.append(written.args[0])
    return commands


# --- Redis ------------------------------------------------------------------------------------------------------------


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    """A server of the side's own, as `plumbline up` starts it; its URL."""
    command = [str(part) for part in embedded_redis.command(directory)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = embedded_redis.url(directory)
    try:
        with connect(url) as client:
            while not _answers(client):
                assert process.poll() is None, "Redis ended"
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _check_durable(client: redis.Redis) -> None:
    settings = cast(dict[str, str], client.config_get("append*"))
    if (settings["appendonly"], settings["appendfsync"]) != ("yes", "always"):
        raise SystemExit(f"this Redis does not write before it answers: {settings}")


def _memory(client: redis.Redis) -> int:
    return int(cast(dict[str, Any], client.info("memory"))["used_memory"])


async def _record(url: str, ids: Sequence[str]) -> None:
    """Completions as serving records them."""
    client = connect_async(url)
    records, slots, rng = CompletionLog(client, window_s=_WINDOW_S), asyncio.Semaphore(_AT_ONCE), random.Random(0)
    looking = asyncio.Lock()

    async def one(identifier: str) -> None:
        async with slots:
            record = _completion(identifier, rng)
            while not (await records.open([record]) and await records.close(record)):
                async with looking:
                    await records.sample()  # at first, and after a moment of a busy disk: it is not timed

    await asyncio.gather(*(one(identifier) for identifier in ids))
    await client.aclose()


def _completion(identifier: str, rng: random.Random) -> CompletionRecord:
    token_ids = [rng.randrange(50_000) for _ in range(ANSWER_TOKENS)]
    choice = Choice(
        index=0,
        text="word " * ANSWER_TOKENS,
        token_ids=token_ids,
        logprobs=[-rng.random() for _ in token_ids],
        finish_reason="stop",
    )
    return CompletionRecord(
        id=identifier,
        state=CompletionState.COMPLETE,
        created=now(),
        messages=[Message(role="user", content="word " * PROMPT_TOKENS)],
        prompt_token_ids=[rng.randrange(50_000) for _ in range(PROMPT_TOKENS)],
        choices=[choice],
        sampling={"n": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": 256},
        policy_version=3,
        adapter_sha256="9f" * 32,
        assignment="live",
        finished=now(),
    )
