"""One real stack for all end-to-end tests: `plumbline up` over a small base that lab trains in a few seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.base_config import load_config
from tests.e2e.stack_process import StackProcess

MIN_VOTES = 90


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that has just begun to speak: it ends its sentences, which random weights do not."""
    from lab.base_model import build_base_model

    config = load_config().model_copy(update={"hidden_size": 64, "layers": 1, "tokens": 200_000, "threads": 1})
    directory = tmp_path_factory.mktemp("base") / "small"
    build_base_model(directory, config=config)
    return directory


@pytest.fixture(scope="session")
def stack(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """Started once, stopped with Ctrl-C at the end."""
    running = StackProcess(
        tmp_path_factory.mktemp("home"),
        small_base,
        Path(__file__).with_name("recipe.toml"),
        PLUMBLINE_MIN_VOTES=str(MIN_VOTES),
        PLUMBLINE_CHECK_INTERVAL_S="2",
        PLUMBLINE_LEASE_S="10",
        PLUMBLINE_MIN_READING_S="0",
    )
    try:
        running.start()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The faults come last: they kill what the others look at, and the very last one stops the stack."""
    items.sort(key=lambda item: item.path.name == "test_faults.py")
