"""Time and memory of archiving a backlog of votes, of reading it back, and of a snapshot of it.

    python -m benchmarks.archive --events 1000000 --json results.json

Half of the events are preferences between two completions, half thumbs on one; a record is about 1 kB. They go straight
into a Redis of the benchmark's own. Peaks are what this process holds beyond what it held before, Redis not counted;
of the snapshot, what it and the processes that it forks hold in all.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from benchmarks.meter import Memory, Stopwatch, family
from core import keys, registry
from core.records import (
    Choice,
    Comparison,
    CompletionRecord,
    CompletionState,
    Feedback,
    Message,
    PolicyState,
    PolicyVersion,
    Target,
)
from core.redis import connect
from feedback import archiving, log, store
from feedback.archive import Archive
from feedback.cut import cut_snapshot
from plumbline import embedded_redis

_RECENT, _NEVER = 0.0, 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client = stack.enter_context(_redis(directory / "redis"))
        archive = Archive(directory)
        targets = list(_fill(client, given.events))
        figures: dict[str, float] = {"events": given.events, "redis_before_mib": _used(client)}
        with _measured(figures, "copy"):
            while _moved(client, archive, _RECENT, _NEVER).copied:
                pass
        for chunk in log.batches(targets):  # their feedback window is over
            client.unlink(*chunk)
        with _measured(figures, "trim"):
            while _moved(client, archive, _NEVER, _RECENT).trimmed:
                pass
        figures["redis_after_mib"] = _used(client)
        with _measured(figures, "read"):
            assert sum(1 for _ in store.read_log(client, archive)) == given.events
        with _measured(figures, "records"):
            found = sum(len(list(log.records(client, "completions", ids, archive))) for ids in _sides(client, archive))
        assert found == given.events * 3 // 2, found
        _cut(client, directory, figures)
        figures["archive_mib"] = sum(path.stat().st_size for path in archive.directory.iterdir()) / 2**20
    for name, value in figures.items():
        print(f"{name:20}{value:14,.1f}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


def _cut(client: redis.Redis, artifacts: Path, figures: dict[str, float]) -> None:
    """A snapshot of it all; its peak is what this process and its helpers hold together."""
    zero = {"adapter_sha256": "00" * 32, "method": "zero", "created": 1.0, "state": PolicyState.CANDIDATE}
    policy = PolicyVersion.model_validate({"version": 0, "parent": None, "base_sha256": "b"} | zero)
    registry.initialise(client, policy, actor="benchmark")
    watch = Stopwatch()
    with family() as peak, watch.running():
        found = cut_snapshot(client, artifacts, salt=b"salt", base_sha256="b", tokenizer_sha256="t").manifest
        figures["snapshot_peak_mib"] = peak() / 2**20
    assert found.rows + found.thumbs + sum(found.dropped.values()) >= figures["events"], found
    figures |= {"snapshot_s": watch.seconds, "snapshot_rows": found.rows + found.thumbs}


def _moved(client: redis.Redis, archive: Archive, copy_after_s: float, keep_s: float) -> archiving.Moved:
    moved = archiving.run(client, archive, copy_after_s=copy_after_s, keep_s=keep_s)
    assert moved is not None
    return moved


def _sides(client: redis.Redis, archive: Archive) -> Iterator[list[str]]:
    for votes in log.batches(store.read_log(client, archive)):
        yield [side for vote in votes for side in vote.feedback.completion_ids]  # type: ignore[union-attr]


@contextmanager
def _measured(figures: dict[str, float], name: str) -> Iterator[None]:
    memory, watch = Memory(), Stopwatch()
    memory.start()
    with watch.running():
        yield
    figures |= {f"{name}_s": watch.seconds, f"{name}_peak_mib": memory.peak() / 2**20}


def _used(client: redis.Redis) -> float:
    return float(client.info("memory")["used_memory"]) / 2**20


def _fill(client: redis.Redis, events: int) -> Iterator[str]:
    """Writes events with their records and index; yields the keys of their targets."""
    for numbers in log.batches(range(events)):
        pipeline = client.pipeline(transaction=False)
        for number in numbers:
            sides = [f"chatcmpl-{number:032x}{side}" for side in "ab"[: 1 + number % 2]]
            target = _write(pipeline, number, sides)
            yield from {target, *map(keys.completion, sides)}
        pipeline.execute()


def _write(pipeline: redis.client.Pipeline, number: int, sides: list[str]) -> str:
    draw = random.Random(number)
    for side in sides:
        ids = draw.choices(range(32_000), k=60)
        record = CompletionRecord(
            id=side,
            state=CompletionState.COMPLETE,
            created=1.79e9,
            messages=[Message(role="user", content=f"prompt {number}: " + " ".join(map(str, ids[:20])))],
            prompt_token_ids=ids[:20],
            choices=[Choice(index=0, text=" ".join(map(str, ids)), token_ids=ids, finish_reason="stop")],
            policy_version=0,
            adapter_sha256="00" * 32,
            assignment="live",
        )
        pipeline.hset(keys.completion(side), "record", record.to_json())
    pair, identifier = len(sides) == 2, f"fb_{number:032x}"
    target = Target(type="comparison", id=f"cmp_{number:032x}") if pair else Target(type="completion", id=sides[0])
    vote = Feedback(
        id=identifier,
        target=target,
        kind="preference" if pair else "thumb",
        value="a" if pair else 1,
        rater=f"user-{number % 5000}",
        created_at=1.79e9,
        policy_versions=[0] * len(sides),
        completion_ids=sides,
        train=True,
    )
    pipeline.xadd(keys.FEEDBACK, {"event": vote.model_dump_json(by_alias=True, exclude_defaults=True)})
    pipeline.hset(f"{keys.FEEDBACK_INDEX}{draw.randrange(4096):03x}", identifier, "1790000000000-0")
    if not pair:
        return keys.completion(target.id)
    orders = {"policy_versions": [0, 0], "order": [0, 1]}
    comparison = Comparison(id=target.id, created=1.79e9, completion_ids=sides, **orders)
    pipeline.hset(keys.comparison(target.id), "record", comparison.to_json())
    return keys.comparison(target.id)


@contextmanager
def _redis(directory: Path) -> Iterator[redis.Redis]:
    directory.mkdir()
    command = [str(part) for part in embedded_redis.command(directory)] + ["--appendonly", "no", "--maxmemory", "0"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=directory, env=os.environ)
    try:
        with connect(embedded_redis.url(directory)) as client:
            while not embedded_redis.socket_path(directory).exists():
                time.sleep(0.05)
            yield client
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
