"""Snapshots and exports over HTTP: streamed by a process of their own, typed errors, nobody who was erased."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import redis
from fastapi import FastAPI

import feedback.app
from core import http, keys, registry
from core.settings import Settings
from feedback import erasure_files, snapshot
from feedback import log as one_log
from feedback.archive import Archive
from feedback.export import FORMATS, export
from feedback.snapshot import Snapshot, ThumbRow
from tests.feedback.canaries import CANARIES, ECHO, OTHERS_PROMPT, RATER, Kept, deployed, plant
from tests.feedback.frozen import EXPECTED, PROMPT, SAMPLED, freeze
from tests.feedback.rounds import cut, policy
from tests.feedback.serving import listening
from tests.feedback.wire import error_of
from tests.waiting import eventually


@pytest.fixture
def admin(redis_server: str, redis_client: redis.Redis, tmp_path: Path) -> Iterator[httpx.Client]:
    """The admin listener."""
    app = FastAPI()
    http.install(app, max_body_bytes=1 << 20)
    feedback.app.attach(FastAPI(), redis_server, Settings(artifacts_url=str(tmp_path)), admin=app)
    with listening(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def thumbs(artifacts: Path, count: int, *, text: str = "Ein Tier.", created: float = 2.0) -> Snapshot:
    given = SAMPLED | {"completion_text": text, "up": True, "trains_policy": True}
    return snapshot.write(
        artifacts / "snapshots",
        pairs=[],
        thumbs=[ThumbRow(**given, feedback_id=f"fb_{number}") for number in range(count)],
        prompts=[],
        created=created,
        last_event="7-0",
        dropped={"thumb_stale": 3},
        live_version=2,
        base_sha256="b",
        tokenizer_sha256="t",
    )


def exporters() -> list[psutil.Process]:
    """The exports of this process that are under way."""
    children = psutil.Process().children(recursive=True)
    return [it for it in children if it.status() != psutil.STATUS_ZOMBIE and "feedback.export" in it.cmdline()]


# --- exports ----------------------------------------------------------------------------------------------------------


def test_datasets_reads_what_is_served(admin: httpx.Client, tmp_path: Path) -> None:
    """The same lines as the command writes, as a file with a name; `datasets` takes them from the URL itself."""
    from datasets import load_dataset

    frozen = freeze(tmp_path)
    query = {"format": "trl-preference", "snapshot": frozen.manifest.id}
    response = admin.get("/v1/export", params=query)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/jsonl"
    assert response.headers["content-disposition"] == (
        f'attachment; filename="{frozen.manifest.id[:12]}-trl-preference.jsonl"'
    )
    assert response.headers["transfer-encoding"] == "chunked"
    assert [json.loads(line) for line in response.text.splitlines()] == EXPECTED["trl-preference"]
    found = load_dataset("json", data_files=str(response.url), split="train", cache_dir=str(tmp_path / "cache"))
    assert list(found) == EXPECTED["trl-preference"]


def test_latest_is_the_newest_with_rows(admin: httpx.Client, tmp_path: Path) -> None:
    """It is the default, says which one it was, and passes over what was erased."""
    frozen, newer = freeze(tmp_path), thumbs(tmp_path, 2)
    served = admin.get("/v1/export", params={"format": "trl-kto"})
    assert (served.headers["x-snapshot-id"], len(served.text.splitlines())) == (newer.manifest.id, 2)
    erasure_files.erase_snapshot(tmp_path, newer.manifest.id, at=5.0)
    served = admin.get("/v1/export", params={"format": "openai-dpo", "snapshot": "latest", "fold": "test"})
    assert served.headers["x-snapshot-id"] == frozen.manifest.id
    assert [json.loads(line) for line in served.text.splitlines()] == EXPECTED["openai-dpo"][1:]


def test_refusals_have_a_status(admin: httpx.Client, tmp_path: Path) -> None:
    """Unknown, malformed, none at all: 404. Erased: 410. A wrong word: 400. Changed on disk: 500 that says so."""

    def ask(**query: str) -> httpx.Response:
        return admin.get("/v1/export", params={"format": "raw"} | query)

    for name in ("latest", "00" * 32, "../snapshots"):
        assert error_of(ask(snapshot=name)) == (404, "snapshot_not_found", None)
    frozen = freeze(tmp_path)
    assert error_of(ask(format="csv")) == (400, None, "query.format")
    assert error_of(ask(folds="test")) == (400, None, "query.folds")
    assert error_of(ask(format="events", fold="test")) == (400, None, "fold")
    (frozen.directory / "prompts.parquet").write_bytes((frozen.directory / "pairs.parquet").read_bytes())
    changed = ask(snapshot=frozen.manifest.id)
    assert error_of(changed) == (500, "snapshot_unreadable", None)
    assert "cannot be exported" in changed.json()["error"]["message"]
    erasure_files.erase_snapshot(tmp_path, frozen.manifest.id, at=5.0)
    assert error_of(ask(snapshot=frozen.manifest.id)) == (410, "snapshot_erased", "snapshot")
    eventually(lambda: not exporters())


def test_an_export_without_rows_is_empty(admin: httpx.Client, tmp_path: Path) -> None:
    thumbs(tmp_path, 1)
    served = admin.get("/v1/export", params={"format": "trl-sft"})
    assert (served.status_code, served.text) == (200, "")


def test_others_are_served_meanwhile_and_who_hangs_up_ends_it(admin: httpx.Client, tmp_path: Path) -> None:
    """A reader that is slow holds up nobody; the process waits with it, and goes when it goes."""
    thumbs(tmp_path, 2500, text="x" * 10_000)
    with admin.stream("GET", "/v1/export", params={"format": "trl-kto"}) as response:
        rest = response.iter_bytes(1 << 16)
        next(rest)
        (running,) = exporters()
        assert admin.get("/v1/snapshots").status_code == 200
        assert running.is_running()
    eventually(lambda: not exporters())


@pytest.mark.parametrize("how", ["killed", "erased"])
def test_what_breaks_off_is_no_whole_file(admin: httpx.Client, tmp_path: Path, how: str) -> None:
    """A process that dies, or somebody in the snapshot is erased while it is read: the connection breaks, so that no
    client takes what it has for all."""
    held = thumbs(tmp_path, 2500, text="x" * 10_000)
    with admin.stream("GET", "/v1/export", params={"format": "trl-kto"}) as response:
        rest = response.iter_bytes(1 << 16)
        next(rest)
        (running,) = exporters()
        if how == "killed":
            running.kill()
        else:
            erasure_files.erase_snapshot(tmp_path, held.manifest.id, at=5.0)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in rest:
                pass


def test_nobody_who_was_erased_is_exported(tmp_path: Path) -> None:
    """Before, their words are in it; afterwards that snapshot is gone for exports, and the next one is clean, in every
    format, the log too."""
    with deployed(tmp_path / "redis", tmp_path / "artifacts") as d:
        plant(d)
        held = d.api.get("/v1/snapshots").json()["first_id"]
        before = d.api.get("/v1/export", params={"format": "events"}).text
        assert RATER in before and ECHO in before
        d.api.delete(f"/v1/users/{RATER}")
        d.erase(Kept())
        refused = d.api.get("/v1/export", params={"format": "raw", "snapshot": held})
        assert error_of(refused) == (410, "snapshot_erased", "snapshot")
        latest = cut(d.client, d.artifacts)
        served = d.api.get("/v1/export", params={"format": "raw"})
        assert served.headers["x-snapshot-id"] == latest.manifest.id
        after = served.text
        for form in FORMATS:
            log = one_log.entries(d.client, Archive(d.artifacts))
            export(latest.directory, form, tmp_path / "out.jsonl", log=log)
            after += (tmp_path / "out.jsonl").read_text()
        assert [canary for canary in CANARIES if canary in after] == []
        assert OTHERS_PROMPT in after


def test_events_are_the_log_as_far_as_the_snapshot_looked(
    admin: httpx.Client, varied: list[str], redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Every revision of every vote and what happened to raters, from archive and Redis; nothing that came later."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    cut(redis_client, tmp_path)
    ids = [position for position, _ in redis_client.xrange(keys.FEEDBACK)]
    redis_client.xadd(keys.FEEDBACK, {"rater": '{"rater":"p","action":"quarantine","actor":"t","created_at":1}'})
    served = [json.loads(line) for line in admin.get("/v1/export", params={"format": "events"}).text.splitlines()]
    assert [it["entry"] for it in served] == ids
    assert [it["type"] for it in served].count("rater") == 1
    votes = [json.loads(it["event"]) for it in served if it["type"] == "feedback"]
    assert {vote["id"] for vote in votes} == set(varied)
    revised = [(vote["revision"], vote["value"]) for vote in votes if vote["id"] == varied[2]]
    assert revised == [(1, 4), (2, 5)]


def test_events_without_redis(redis_client: redis.Redis, tmp_path: Path) -> None:
    """503, to be tried again; rows need no Redis."""
    freeze(tmp_path)
    app = FastAPI()
    http.install(app, max_body_bytes=1 << 20)
    settings = Settings(artifacts_url=str(tmp_path))
    feedback.app.attach(FastAPI(), "redis://127.0.0.1:1", settings, admin=app)
    with listening(app) as url:
        away = httpx.get(f"{url}/v1/export", params={"format": "events"}, timeout=60)
        assert error_of(away) == (503, "storage_unavailable", None)
        assert away.headers["retry-after"]
        assert httpx.get(f"{url}/v1/export", params={"format": "raw"}, timeout=60).status_code == 200


# --- lists ------------------------------------------------------------------------------------------------------------


def test_snapshots_are_listed_newest_first(admin: httpx.Client, tmp_path: Path) -> None:
    """In pages; what is half written or no snapshot is none."""
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert admin.get("/v1/snapshots").json() == empty
    made = [thumbs(tmp_path, count, created=float(count)).manifest.id for count in (1, 2, 3)]
    (tmp_path / "snapshots" / ".half").mkdir()
    (tmp_path / "snapshots" / ("ab" * 32)).mkdir()
    page = admin.get("/v1/snapshots", params={"limit": 2}).json()
    assert ([it["id"] for it in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
    page = admin.get("/v1/snapshots", params={"limit": 2, "after": page["last_id"]}).json()
    assert ([it["id"] for it in page["data"]], page["has_more"]) == ([made[0]], False)
    unknown = admin.get("/v1/snapshots", params={"after": "00" * 32})
    assert error_of(unknown) == (404, "snapshot_not_found", None)


def test_a_snapshot_says_what_is_in_it(admin: httpx.Client, tmp_path: Path) -> None:
    """The manifest's figures; no prompt, no text. After an erasure they stay, with its date."""
    made = thumbs(tmp_path, 4).manifest
    shown = admin.get(f"/v1/snapshots/{made.id}")
    assert shown.json() == {
        "id": made.id,
        "object": "snapshot",
        "created_at": "1970-01-01T00:00:02Z",
        "rows": {"pairs": 0, "thumbs": 4, "rankings": 0, "ratings": 0, "demonstrations": 0, "prompts": 0},
        "folds": {"optimize": 0, "judge": 0, "test": 0},
        "policy_rows": {"pairs": 0, "thumbs": 4},
        "raters": 1,
        "dropped": {"thumb_stale": 3},
        "caps": {},
        "last_event": "7-0",
        "live": "assistant@v2",
        "base_sha256": "b",
        "tokenizer_sha256": "t",
        "erased_at": None,
    }
    assert PROMPT not in shown.text
    erasure_files.erase_snapshot(tmp_path, made.id, at=5.0)
    assert admin.get(f"/v1/snapshots/{made.id}").json()["erased_at"] == "1970-01-01T00:00:05Z"
    for name in ("00" * 32, "latest", ".."):
        assert admin.get(f"/v1/snapshots/{name}").status_code == 404
