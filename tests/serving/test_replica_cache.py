"""A replica's own copies: verified, read-only, repaired, pruned."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.adapters import WEIGHTS, base_shapes
from core.errors import AdapterError
from serving.replica_cache import ReplicaCache
from tests.serving import fake


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return fake.write_base(tmp_path / "base")


@pytest.fixture
def cache(tmp_path: Path, base: Path) -> Iterator[ReplicaCache]:
    yield ReplicaCache(tmp_path / "cache", tmp_path / "artifacts", base_shapes(base))


def test_a_copy_is_private_and_read_only(tmp_path: Path, base: Path, cache: ReplicaCache) -> None:
    """What happens to the artifact afterwards does not touch the copy."""
    sha256 = fake.publish(tmp_path / "artifacts", base, number=1)
    copy, manifest = cache.fetch(sha256)
    (tmp_path / "artifacts" / "adapters" / sha256 / WEIGHTS).write_bytes(b"gone")
    assert (manifest.sha256, copy) == (sha256, tmp_path / "cache" / sha256)
    assert {file.stat().st_mode & 0o777 for file in copy.iterdir()} == {0o444}
    assert cache.fetch(sha256) == (copy, manifest)


def test_a_damaged_copy_is_made_again(tmp_path: Path, base: Path, cache: ReplicaCache) -> None:
    """Bit rot on the replica's disk is met by the artifact, not served."""
    sha256 = fake.publish(tmp_path / "artifacts", base, number=1)
    weights = cache.fetch(sha256)[0] / WEIGHTS
    whole = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(whole[:-1])
    assert (cache.fetch(sha256)[0] / WEIGHTS).read_bytes() == whole


def test_a_damaged_artifact_leaves_nothing(tmp_path: Path, base: Path, cache: ReplicaCache) -> None:
    """Refused, and no half copy lies in the cache; a missing one is refused as well."""
    sha256 = fake.publish(tmp_path / "artifacts", base, number=1)
    weights = tmp_path / "artifacts" / "adapters" / sha256 / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    for name in (sha256, "0" * 64):
        with pytest.raises(AdapterError):
            cache.fetch(name)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_rank_is_read_before_anything_is_copied(tmp_path: Path, base: Path, cache: ReplicaCache) -> None:
    """From the artifact, or from the copy when the artifact is away."""
    sha256 = fake.publish(tmp_path / "artifacts", base, number=1, rank=3)
    assert cache.rank(sha256) == 3
    cache.fetch(sha256)
    (tmp_path / "artifacts").rename(tmp_path / "gone")
    assert cache.rank(sha256) == 3
    with pytest.raises(AdapterError):
        cache.rank("0" * 64)


def test_pruning_keeps_what_is_needed(tmp_path: Path, base: Path, cache: ReplicaCache) -> None:
    """Copies that are named stay, others go, the last-good file is no copy."""
    kept, dropped = (fake.publish(tmp_path / "artifacts", base, number=number) for number in (1, 2))
    cache.fetch(kept)
    cache.fetch(dropped)
    cache.remember(generation=4, version=1, sha256=kept)
    cache.prune({kept})
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} == {kept, "last-good.json"}
    last_good = cache.last_good()
    assert last_good is not None
    assert (last_good.generation, last_good.version, last_good.adapter_sha256) == (4, 1, kept)


@pytest.mark.parametrize("content", [None, "", "{", '{"generation": 1}'])
def test_an_unreadable_last_good_file_is_none(tmp_path: Path, cache: ReplicaCache, content: str | None) -> None:
    """It is a hint, never a reason to fail."""
    if content is not None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "last-good.json").write_text(content)
    assert cache.last_good() is None
