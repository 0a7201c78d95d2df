"""A deployment that the tests of a module share."""

from collections.abc import Iterator

import pytest

from tests.plumbline.replicas import Deployment


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Without a key and without a replica yet."""
    with Deployment(tmp_path_factory.mktemp("deployment")) as it:
        yield it
