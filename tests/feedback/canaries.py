"""A deployment with words of one person that are easy to find again, for the tests of erasure."""

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

import feedback.app
from core import http, keys, registry
from core.records import Comparison, Erasure
from core.settings import Settings
from core.shadow import ShadowAnswer
from feedback import archiving, erasure
from feedback.archive import Archive
from feedback.archiving import Moved
from feedback.invitations import Invitation
from tests.feedback.conftest import WINDOW_S, completion_record
from tests.feedback.rounds import cut, policy, publish
from tests.serving.redis_process import RedisProcess

RATER = "canary:rater@example.org"
PROMPT, ANSWER, EDITED = "canary-prompt-mandrake", "canary-answer-belladonna", "canary-correction-hellebore"
COMMENT, LABEL, OWN_ID = "canary-comment-aconite", "canary-metadata-oleander", "fb_canary-own-id-foxglove"
ECHO = "canary-echo-of-another-rater"
UNSIGNED = "canary-unsigned-prompt-hemlock"
TITLE = "canary-conversation-yew"
UNSEEN = [31415, 92653, 58979]
"""What a candidate would have answered, as token ids."""
CANARIES = [RATER, PROMPT, ANSWER, EDITED, COMMENT, LABEL, OWN_ID, ECHO, UNSIGNED, TITLE, ",".join(map(str, UNSEEN))]
OTHER, OTHERS_PROMPT = "other@example.org", "a prompt that is nobody's business"


class Kept:
    """No training here: says which snapshots' runs were to go."""

    def __init__(self) -> None:
        self.snapshots: set[str] = set()

    def __call__(self, snapshots: Collection[str]) -> list[str]:
        self.snapshots |= set(snapshots)
        return []


class Deployment:
    """A Redis of its own with its append-only file in clear, artifacts, and the feedback API of both listeners."""

    def __init__(self, url: str, directory: Path, artifacts: Path) -> None:
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.url, self.directory, self.artifacts = url, directory, artifacts
        settings = Settings(feedback_window_s=WINDOW_S, artifacts_url=str(artifacts))
        app = FastAPI()
        http.install(app, max_body_bytes=settings.max_body_bytes)
        feedback.app.attach(app, url, settings, admin=app)
        self.api = TestClient(app)

    def put(self, identifier: str, **given: object) -> None:
        record = completion_record(identifier, **given)
        fields = {"record": record.to_json(), "outline": record.outline(), "state": str(record.state)}
        self.client.hset(keys.completion(identifier), mapping=fields)
        self.client.expire(keys.completion(identifier), WINDOW_S)
        said = {"messages": [{"role": it.role, "content": it.content} for it in record.messages]}
        prompt = said | {"prompt_token_ids": record.prompt_token_ids, "rater": record.rater}
        self.client.xadd(keys.PROMPTS, {"prompt": json.dumps(prompt)})

    def compare(self, identifier: str, *, rater: str, **given: object) -> None:
        sides = [f"chatcmpl-{identifier}-{side}" for side in "ab"]
        for side in sides:
            self.put(side, rater=rater, assignment="comparison", comparison_id=identifier, **given)
        record = Comparison(
            id=identifier, created=1.0, completion_ids=sides, policy_versions=[0, 0], order=[0, 1], rater=rater
        )
        self.client.hset(keys.comparison(identifier), "record", record.to_json())

    def vote(self, target: str, rater: str, **said: object) -> str:
        about = {"type": "comparison" if target.startswith("cmp_") else "completion", "id": target}
        body = {"target": about, "kind": "thumb", "value": 1, "rater": {"id": rater}}
        response = self.api.post(
            "/v1/feedback", json=body | said, headers={"Idempotency-Key": f"{target}{rater}{said}"}
        )
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def archive(self, *, keep_s: float = WINDOW_S) -> Moved:
        moved = archiving.run(self.client, Archive(self.artifacts), copy_after_s=0, keep_s=keep_s)
        assert moved is not None
        return moved

    def erase(self, forget_runs: erasure.ForgetRuns) -> Erasure:
        (job,) = erasure.pending(self.client)
        done = erasure.run(self.client, self.artifacts, job, forget_runs=forget_runs)
        assert done is not None
        return done

    def state(self) -> dict[str, bytes]:
        """Everything in Redis, to be put back."""
        return {key: dumped(self.client, key) for key in self.client.keys("*")}

    def restore(self, state: dict[str, bytes], files: Path) -> None:
        self.client.flushall()
        for key, value in state.items():
            self.client.restore(key, 0, value)
        shutil.rmtree(self.artifacts)
        shutil.copytree(files, self.artifacts)

    def found(self) -> set[str]:
        """The canaries that are anywhere: in a key's name or content, in the append-only file, in any artifact."""
        places = [key.encode() + (dumped(self.client, key)) for key in self.client.keys("*")]
        paths = [*self.directory.rglob("*"), *self.artifacts.rglob("*")]
        places += [str(path).encode() + path.read_bytes() for path in paths if path.is_file()]
        places += [text.encode() for path in self.artifacts.rglob("*.parquet") for text in words(path)]
        return {canary for canary in CANARIES if any(canary.encode() in place for place in places)}


def dumped(client: redis.Redis, key: str) -> bytes:
    """What Redis would write to disk for a key; its RDB compression is off."""
    with redis.Redis(connection_pool=redis.ConnectionPool(**raw(client))) as bare:
        return bare.dump(key) or b""


def raw(client: redis.Redis) -> dict[str, object]:
    kwargs = dict(client.connection_pool.connection_kwargs) | {"decode_responses": False}
    return kwargs | {"connection_class": redis.UnixDomainSocketConnection}


def words(path: Path) -> list[str]:
    """Parquet compresses, so its text is read as a reader would."""
    return [json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False)]


def message(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def choice(text: str) -> list[dict[str, object]]:
    return [{"index": 0, "text": text, "token_ids": [70, 4], "finish_reason": "stop"}]


@contextlib.contextmanager
def deployed(directory: Path, artifacts: Path) -> Iterator[Deployment]:
    server = RedisProcess(directory, rdbcompression="no")
    server.start()
    try:
        made = Deployment(server.url, directory, artifacts)
        with made.api:
            registry.initialise(made.client, policy(0, None), actor="test")
            yield made
        made.client.close()
    finally:
        server.stop()


def plant(d: Deployment) -> None:
    """Two snapshots (before the person came, and with them), an archive, a policy trained, votes still in Redis."""
    d.put("chatcmpl-other", rater=OTHER, messages=message(OTHERS_PROMPT))
    d.vote("chatcmpl-other", OTHER, comment="mine")
    cut(d.client, d.artifacts)
    d.put("chatcmpl-canary", rater=RATER, messages=message(PROMPT), choices=choice(ANSWER), metadata={"l": LABEL})
    unseen = ShadowAnswer(release="rel_1", token_ids=UNSEEN)
    d.client.hset(keys.completion("chatcmpl-canary"), "shadow", unseen.to_json())
    d.vote("chatcmpl-canary", RATER, id=OWN_ID, comment=COMMENT, metadata={"l": LABEL})
    d.vote("chatcmpl-canary", RATER, kind="correction", value=EDITED)
    d.vote("chatcmpl-canary", OTHER, kind="correction", value=f"{ANSWER}, {ECHO}")
    d.vote("chatcmpl-other", RATER, value=-1)
    d.compare("cmp_canary", rater=RATER, messages=message(PROMPT), choices=choice(ANSWER))
    d.vote("cmp_canary", RATER, kind="preference", value="a", comment=COMMENT)
    for rater, title in ((RATER, TITLE), (OTHER, "nobody's business")):
        d.client.hset(keys.conversation(rater, "conv_1"), mapping={"record": title, "title": title})
        d.client.zadd(keys.conversations(rater), {"conv_1": 1})
    d.client.zadd(keys.visitor_votes(RATER), {OWN_ID: 1})
    d.put("chatcmpl-nobodys", rater=None, messages=message(UNSIGNED))
    d.vote("chatcmpl-nobodys", RATER, kind="rating", value=2)
    assert d.api.post(f"/v1/raters/{RATER}/consent", json={"train": True}).status_code == 201
    held = cut(d.client, d.artifacts)
    publish(d.client, policy(1, 0, snapshot=held.manifest.id))
    d.archive()
    d.vote("chatcmpl-canary", RATER, kind="comment", value=COMMENT)
    d.vote("chatcmpl-other", OTHER, kind="rating", value=4)
    invited = Invitation(id="5d" * 16, rater=RATER, created=1.0, expires=2**40, actor="test")
    d.client.hset(keys.INVITATIONS, RATER, invited.to_json())
    for decision in ("quarantine", "restore"):
        assert d.api.post(f"/v1/raters/{RATER}/{decision}", json={"reason": "a test"}).status_code == 201
    assert d.found() == set(CANARIES)
