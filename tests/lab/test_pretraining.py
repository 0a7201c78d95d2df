"""The training loop of the demo base model."""

import pytest

from lab.base_config import BaseModelConfig, load_config
from lab.pretraining import learning_rate_factor


def _config(**changes: float) -> BaseModelConfig:
    return load_config().model_copy(update=changes)


@pytest.mark.parametrize(
    ("share_done", "factor"), [(0.0, 0.01), (0.05, 0.5), (0.1, 1.0), (0.5, 1.0), (0.6, 1.0), (0.8, 0.5), (1.0, 0.01)]
)
def test_learning_rate_by_hand(share_done: float, factor: float) -> None:
    """A tenth of warm-up, flat, then a fall over the last two fifths; never quite zero."""
    assert learning_rate_factor(share_done, _config(warmup=0.1, decay=0.4)) == pytest.approx(factor)
