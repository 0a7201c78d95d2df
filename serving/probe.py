"""Does the engine serve the adapter that was published? Compares its log-probs with those the trainer stored.

The trainer scored the *published file* in the serving dtype, so float32 must agree almost to the digit. In bfloat16
rounding hides small faults; there the slope of served-minus-parent on trainer-minus-parent tells a served adapter (1)
from one that was half loaded or served as its parent (0).
"""

from dataclasses import dataclass

import numpy as np

from core.records import ProbeSequence

FLOAT32_MAX = 1e-4  # nats, any token
HALF_MEAN, HALF_P99 = 0.02, 0.2  # nats
SLOPE = (0.9, 1.1)
TELLING = 5.0
"""A slope is judged where trainer and parent differ by this many times the tolerated mean error (RMS)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeReport:
    """`ProbeReport(tokens=512, max_error=3e-6, mean_error=4e-7, slope=1.0, fault="")`; empty `fault` means passed."""

    tokens: int
    max_error: float
    mean_error: float
    slope: float | None
    """None: too close to its parent to tell (or it has none)."""
    fault: str


def compare(probe: list[ProbeSequence], scores: list[list[float]], *, float32: bool) -> ProbeReport:
    """Judges served log-probs.

    Args:
        probe: the manifest's sequences.
        scores: for each sequence the served log-probs of `token_ids[1:]`.
        float32: both trainer and engine computed in float32.
    """
    assert len(probe) == len(scores)
    spans = [(sequence, score[sequence.start - 1 :]) for sequence, score in zip(probe, scores, strict=True)]
    if not any(sequence.logprobs for sequence in probe):
        return ProbeReport(tokens=0, max_error=0.0, mean_error=0.0, slope=None, fault="the manifest carries no probe")
    trained = np.concatenate([sequence.logprobs for sequence in probe])
    served = np.concatenate([score[: len(sequence.logprobs)] for sequence, score in spans])
    error = np.abs(served - trained)
    slope = _slope(probe, trained, served, tolerance=FLOAT32_MAX if float32 else HALF_MEAN)
    return ProbeReport(
        tokens=len(trained),
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        slope=slope,
        fault=_fault(error, slope, float32=float32),
    )


def _fault(error: np.ndarray, slope: float | None, *, float32: bool) -> str:
    if not np.isfinite(error).all():
        return "served log-probs are not finite"
    if float32 and error.max() > FLOAT32_MAX:
        return f"served log-probs are off by up to {error.max():.2g} nats (at most {FLOAT32_MAX})"
    if not float32 and (error.mean() > HALF_MEAN or np.quantile(error, 0.99) > HALF_P99):
        return f"served log-probs are off by {error.mean():.2g} nats on average (at most {HALF_MEAN})"
    if slope is not None and not SLOPE[0] <= slope <= SLOPE[1]:
        return f"what the adapter changes is served with slope {slope:.2f} (expected 1)"
    return ""


def _slope(probe: list[ProbeSequence], trained: np.ndarray, served: np.ndarray, *, tolerance: float) -> float | None:
    if any(sequence.parent_logprobs is None for sequence in probe):
        return None
    parent = np.concatenate([sequence.parent_logprobs or [] for sequence in probe])
    wanted = trained - parent
    if np.sqrt(np.mean(wanted**2)) < TELLING * tolerance:
        return None
    return float(np.dot(wanted, served - parent) / np.dot(wanted, wanted))
