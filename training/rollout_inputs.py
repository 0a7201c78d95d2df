"""What trainers take that learn from samples of their own: prompts to answer, and the reward model that scores them.

They optimize the reward model, so of a snapshot it must not have seen what is kept for judging (design §6).
"""

from pathlib import Path

from core.errors import UsageError
from core.files import sha256_of
from feedback import snapshot as snapshots
from training import sources
from training.job import Job
from training.program import Skipped
from training.reward_model import CARD, RewardModel, load_reward_model


def prompts_of(job: Job) -> tuple[list[list[int]], int]:
    """Prompts that leave room for an answer, and how many do not; of a snapshot those of the optimize fold.

    Raises:
        Skipped: there are too few to learn from.
    """
    if job.encoder is None:
        rows = snapshots.read(job.data).prompts
        found = [list(row.prompt_token_ids) for row in rows if row.fold == "optimize"]
    else:
        found = sources.prompts(job.data, job.encoder)
    longest = job.recipe.max_length - job.recipe.sampling.max_new_tokens
    kept = [prompt for prompt in found if 0 < len(prompt) <= longest]
    if len(kept) < job.recipe.min_policy_rows:
        raise Skipped(f"{len(kept)} usable prompts; the recipe asks for {job.recipe.min_policy_rows}")
    return kept, len(found) - len(kept)


def reward_of(job: Job, directory: Path) -> RewardModel:
    """The reward model as a role on the job's base.

    Raises:
        UsageError: it was trained over another base, or on votes that are kept for judging.
    """
    model, card = load_reward_model(job.base, directory)
    others = set(card.folds) - {"optimize"}
    if job.encoder is None and others:
        raise UsageError(
            f"The reward model in {directory} was trained on the {' and '.join(sorted(others))} fold too, and what is "
            "left to judge the policy with would be optimized. Train it with --folds optimize."
        )
    return model


def digests(directory: Path) -> list[str]:
    """Names a reward model: of its card and every file of weights."""
    return [sha256_of(path) for path in (directory / CARD, *sorted(directory.rglob("*.safetensors")))]
