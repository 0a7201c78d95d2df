"""One row of the table: a pilot picks the peer, then both sides take turns, and first of all they must agree."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from benchmarks.worker import Worker
from benchmarks.workload import Options, Outcome, Shape, Task, Work

TOLERANCE = 1e-4
"""Between two loss curves, at every step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A version of TRL and how it is configured."""

    version: str
    options: Options

    def __str__(self) -> str:
        kept = {name: value for name, value in self.options.items() if name in _TOLD and value != 1}
        return ", ".join([f"trl {self.version}", *(f"{_TOLD[name]} {value}".strip() for name, value in kept.items())])


_TOLD = {
    "attention": "",
    "gradient_accumulation_steps": "parts",
    "local_rollout_forward_batch_size": "rollouts at once",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """What is run."""

    task: Task
    shape: Shape
    model: str
    ours: Work
    theirs: Work
    """Without options."""
    pilot: Work
    """As `theirs`, but short."""
    candidates: Sequence[Candidate]
    default: Candidate
    """As TRL's configuration stands, but in float32."""
    check: Callable[[Outcome, Outcome], float]
    """How far ours and theirs are apart; it raises SystemExit where they are not the same training."""

    @property
    def name(self) -> str:
        return f"{self.model}-{self.shape}-{self.task}"

    def runs(self, repeats: int) -> int:
        """How many, for the bar."""
        return len(self.candidates) + 2 * repeats + 1


class Result(BaseModel):
    """A row. Ratios are ours to theirs: speed above 1 and memory below 1 are in our favour."""

    task: Task
    shape: Shape
    device: str = "cpu"
    model: str
    peer: str
    """The fastest in the pilot."""
    speed_ratio: float
    """Median over the pairs of runs."""
    memory_ratio: float
    """Of peaks beyond the loaded models, median."""
    ours: float
    """Preference pairs or rollouts per second, median."""
    theirs: float
    our_peak_mb: float
    their_peak_mb: float
    default_speed_ratio: float
    """Beside TRL's defaults, one run."""
    default_memory_ratio: float
    repeats: int
    speed_ratios: list[float]
    processor_ratio: float
    """The speed ratio by processor time in the place of clock time, median: what a busy machine disturbs least."""
    processor_share: float
    """Processor time by clock time and threads, of all runs: far below 1, something else was running."""
    difference: float
    """The largest between both loss curves. PPO: between the first iterations' mean scores, in standard errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    """The processes that run it, and where it is told."""

    own: Worker
    peers: Mapping[str, Worker]
    """By version, for this task."""
    repeats: int
    advance: Callable[[str], None]
    """One more run is done; told what it was."""


def compare(contest: Contest, arena: Arena) -> Result:
    """Raises SystemExit where a run fails or the sides disagree."""
    best = _pilot(contest, arena)
    ours, theirs, difference = [], [], 0.0
    for number in range(arena.repeats):
        ours.append(arena.own.run(contest.ours))
        arena.advance("ours")
        theirs.append(_theirs(contest.theirs, best, arena))
        difference = max(difference, contest.check(ours[-1], theirs[-1]))
        arena.advance(f"{number + 1}: {_ratio(ours[-1], theirs[-1]):.2f} × the speed")
    default = _theirs(contest.theirs, contest.default, arena)
    arena.advance("defaults")
    ratios = [_ratio(first, second) for first, second in zip(ours, theirs, strict=True)]
    speed, peak = (
        statistics.median(values) for values in ([_speed(run) for run in ours], [r.peak_bytes for r in ours])
    )
    return Result(
        task=contest.task,
        shape=contest.shape,
        model=contest.model,
        peer=str(best),
        speed_ratio=statistics.median(ratios),
        memory_ratio=peak / statistics.median(run.peak_bytes for run in theirs),
        ours=speed,
        theirs=statistics.median(_speed(run) for run in theirs),
        our_peak_mb=peak / 1e6,
        their_peak_mb=statistics.median(run.peak_bytes for run in theirs) / 1e6,
        default_speed_ratio=speed / _speed(default),
        default_memory_ratio=peak / default.peak_bytes,
        repeats=arena.repeats,
        speed_ratios=ratios,
        processor_ratio=statistics.median(
            second.processor_seconds / first.processor_seconds for first, second in zip(ours, theirs, strict=True)
        ),
        processor_share=_processor_share([*ours, *theirs], contest.ours.threads),
        difference=difference,
    )


def same_losses(ours: Outcome, theirs: Outcome) -> float:
    """Largest difference between two loss curves.

    Raises:
        SystemExit: they are not the same training.
    """
    differences = [abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True)]
    found = max(differences)
    if not all(difference <= TOLERANCE for difference in differences):  # a loss that is no number is not ≤ either
        raise SystemExit(f"The loss curves disagree by {found:.1e}: {ours.losses} and {theirs.losses}")
    return found


def _pilot(contest: Contest, arena: Arena) -> Candidate:
    seconds = []
    for candidate in contest.candidates:
        seconds.append(_theirs(contest.pilot, candidate, arena).seconds)
        arena.advance(f"pilot: {candidate} took {seconds[-1]:.1f} s")
    return contest.candidates[seconds.index(min(seconds))]


def _theirs(work: Work, candidate: Candidate, arena: Arena) -> Outcome:
    return arena.peers[candidate.version].run(work.model_copy(update={"options": candidate.options}))


def _ratio(ours: Outcome, theirs: Outcome) -> float:
    return theirs.seconds / ours.seconds


def _speed(run: Outcome) -> float:
    return run.count / run.seconds


def _processor_share(runs: Sequence[Outcome], threads: int) -> float:
    return sum(run.processor_seconds for run in runs) / sum(run.seconds for run in runs) / threads
