"""The four programs, end to end on a tiny model: zero adapter → reward model → candidate → published → gate."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.adapters import BaseShapes, adapter_sha256, verify
from core.errors import UsageError
from core.records import GateReport, Verdict
from feedback.snapshot import Snapshot
from tests import warm
from tests.training.examples import cut, pair_row
from training import dpo, evaluate, publish, reward
from training.gate import Evaluation
from training.program import Skipped
from training.sentinel import Step

RECIPE = """
[recipe]
precision = "float32"
attention = "eager"
judge = "reward"
lora = { rank = 4, alpha = 8 }
reward = { head = "surprise", learning_rate = 3e-3, head_learning_rate = 1e-2, epochs = 3, reference_samples = 32 }
dpo = { beta = 0.3, nll_coef = 0.5, learning_rate = 1e-2, epochs = 6 }
sampling = { max_new_tokens = 12 }
evaluate = { prompts = 40, completions = 80, kl_samples = 40, resamples = 200 }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """A base, a recipe, a snapshot, and a round of training on them."""

    directory: Path
    base: Path
    shapes: BaseShapes
    snapshot: Snapshot

    def options(self, **more: object) -> list[str]:
        pairs = {"base": self.base, "recipe": self.directory / "recipe.toml"} | more
        return [part for name, value in pairs.items() for part in (f"--{name.replace('_', '-')}", str(value))]

    @property
    def adapters(self) -> Path:
        return self.directory / "artifacts" / "adapters"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, qwen_directory: Path, qwen_shapes: BaseShapes) -> Workshop:
    directory = tmp_path_factory.mktemp("workshop")
    (directory / "recipe.toml").write_text(RECIPE)
    snapshot = cut(directory, [pair_row(number) for number in range(160)], qwen_shapes)
    return Workshop(directory=directory, base=qwen_directory, shapes=qwen_shapes, snapshot=snapshot)


@pytest.fixture(scope="module")
def zero(workshop: Workshop) -> Path:
    """The published adapter of version 0."""
    publish.main([*workshop.options(artifacts=workshop.directory / "artifacts"), "--zero"])
    (found,) = workshop.adapters.iterdir()
    return found


@pytest.fixture(scope="module")
def reward_model(workshop: Workshop) -> Path:
    out = workshop.directory / "reward"
    reward.main(workshop.options(data=workshop.snapshot.directory, out=out))
    return out


@pytest.fixture(scope="module")
def candidate(workshop: Workshop, zero: Path) -> Path:
    """A trained adapter, published."""
    out = workshop.directory / "candidate"
    dpo.main(workshop.options(data=workshop.snapshot.directory, init_adapter=zero, out=out))
    artifacts = workshop.directory / "artifacts"
    publish.main(workshop.options(adapter=out, parent=zero, snapshot=workshop.snapshot.directory, artifacts=artifacts))
    (found,) = [path for path in workshop.adapters.iterdir() if path != zero]
    return found


def test_version_zero_is_an_adapter_like_any_other(workshop: Workshop, zero: Path) -> None:
    """A replica verifies it; its probe holds at least 512 tokens that the base itself wrote."""
    manifest = verify(zero, workshop.shapes, expected_sha256=zero.name)

    assert sum(len(sequence.logprobs) for sequence in manifest.probe) >= 512
    assert manifest.parent_sha256 is None
    assert all(sequence.parent_logprobs is None for sequence in manifest.probe)


def test_version_zero_is_the_same_wherever_it_is_made(workshop: Workshop, zero: Path, tmp_path: Path) -> None:
    """No seed, path or clock is in it: published again elsewhere it has the same hash."""
    publish.main([*workshop.options(artifacts=tmp_path), "--zero"])

    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [zero.name]


def test_the_reward_model_reports_what_it_is_worth(reward_model: Path, workshop: Workshop) -> None:
    """Accuracy on the test fold with its bound and count; the metrics have a line per step."""
    card = json.loads((reward_model / "reward.json").read_text())
    tested = sum(row.fold == "test" for row in workshop.snapshot.pairs)

    assert card["test_pairs"] == tested > 0
    assert card["pairs"] == 160 - tested
    assert card["test_accuracy"] > 0.8
    assert card["test_accuracy_low"] < card["test_accuracy"]
    assert len((reward_model / "metrics.jsonl").read_text().splitlines()) == 3 * -(-card["pairs"] // 64)


def test_a_second_judge_is_another_model(workshop: Workshop, reward_model: Path, tmp_path: Path) -> None:
    """Trained on the judge fold with a seed of its own it is independent of the reward model."""
    options = workshop.options(data=workshop.snapshot.directory, out=tmp_path, folds="judge,optimize")
    reward.main([*options, "--set", "seed=9"])

    assert json.loads((tmp_path / "reward.json").read_text())["seed"] == 9
    assert (tmp_path / "head.safetensors").read_bytes() != (reward_model / "head.safetensors").read_bytes()


def test_a_candidate_is_published_with_its_probe(workshop: Workshop, zero: Path, candidate: Path) -> None:
    """The directory is named by its hash and verifies; candidate and parent differ on the probe; no path of the
    machine is in its configuration."""
    manifest = verify(candidate, workshop.shapes, expected_sha256=candidate.name)
    differences = [
        abs(own - parent)
        for sequence in manifest.probe
        for own, parent in zip(sequence.logprobs, sequence.parent_logprobs or [], strict=True)
    ]

    assert manifest.parent_sha256 == adapter_sha256(zero)
    assert len(differences) >= 512
    assert sum(differences) / len(differences) > 0.01
    assert "/" not in (candidate / "adapter_config.json").read_text()


def test_training_again_gives_the_same_bytes(workshop: Workshop, zero: Path, candidate: Path, tmp_path: Path) -> None:
    """Same snapshot, recipe and seed: the same adapter, so the same hash; publishing it again leaves one directory."""
    dpo.main(workshop.options(data=workshop.snapshot.directory, init_adapter=zero, out=tmp_path / "again"))
    artifacts = workshop.directory / "artifacts"
    options = {"parent": zero, "snapshot": workshop.snapshot.directory, "artifacts": artifacts}
    publish.main(workshop.options(adapter=tmp_path / "again", **options))

    assert {path.name for path in workshop.adapters.iterdir()} == {zero.name, candidate.name}


def test_the_candidate_is_measured_and_judged(
    workshop: Workshop, zero: Path, candidate: Path, reward_model: Path, tmp_path: Path
) -> None:
    """Against version 0 it wins by the judge; KL to parent and base agree where the parent is the base; too few
    prompts make the verdict inconclusive."""
    inputs = {"candidate": candidate, "live": zero, "judge": reward_model, "snapshot": workshop.snapshot.directory}
    evaluate.main(workshop.options(**inputs, live_version=0, out=tmp_path))
    evaluation = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())
    report = GateReport.model_validate_json((tmp_path / "gate.json").read_text())

    assert evaluation.win_rate > 0.5
    assert evaluation.kl_to_parent.per_completion == pytest.approx(evaluation.kl_to_base.per_completion, rel=1e-6)
    assert evaluation.kl_to_base.per_completion > 0
    assert evaluation.completions >= 80
    assert "prompts" in {check.name for check in report.checks if check.verdict == Verdict.INCONCLUSIVE}


def test_the_sentinel_is_told_of_this_round_and_of_those_before(
    workshop: Workshop, zero: Path, candidate: Path, reward_model: Path, tmp_path: Path
) -> None:
    """DPO's own reward is the log-ratio, by which a candidate nearly always beats what it started from; wrong claims
    are measured; the way includes the rounds before; people who compared the live version with its parent are heard."""
    step = Step(version=3, parent=2, proxy_win_low=0.9, kl_to_parent=2.0, length_ratio=1.5)
    (tmp_path / "steps.json").write_text(f"[{step.to_json()}]")
    inputs = {"candidate": candidate, "live": zero, "judge": reward_model, "snapshot": workshop.snapshot.directory}
    watched = {"reward": reward_model, "steps": tmp_path / "steps.json", "live_version": 3, "out": tmp_path}
    evaluate.main(workshop.options(**inputs, **watched))
    evaluation = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())
    report = GateReport.model_validate_json((tmp_path / "gate.json").read_text())
    signals = evaluation.signals

    assert signals is not None and signals.proxy == "implicit"
    assert signals.proxy_win is not None and signals.proxy_win.low > 0.6
    assert signals.judge_win is not None and signals.judge_win.value == evaluation.win_rate
    assert signals.agreement is not None and 0 < signals.agreement.candidate < 1
    assert signals.agreement.live == pytest.approx(signals.agreement.base)  # version 0 is the base
    assert {"sentinel_judge_win", "sentinel_length", "sentinel_agreement"} <= {check.name for check in report.checks}
    assert report.metrics["kl_path"] == pytest.approx(2.0 + evaluation.kl_to_parent.per_completion)
    assert report.metrics["length_path"] == pytest.approx(1.5 * evaluation.length_ratio)


def test_of_each_person_the_first_vote_on_a_step_counts() -> None:
    """Version 3 against its parent 2: user-1 preferred it and then did not, user-2 found a tie; others compared other
    versions, are machines, or are nobody in particular."""
    between = {"chosen_version": 3, "rejected_version": 2}
    rows = [
        pair_row(2, rater="user-1", chosen_version=2, rejected_version=3, created_at=2.0),
        pair_row(1, rater="user-1", created_at=1.0, **between),
        pair_row(3, rater="user-2", tie=True, **between),
        pair_row(4, rater="user-3", chosen_version=3, rejected_version=3),
        pair_row(5, rater="judge", rater_kind="ai", **between),
        pair_row(6, rater="-", **between),
    ]
    step = Step(version=3, parent=2, proxy_win_low=None, kl_to_parent=0.0, length_ratio=1.0)

    assert evaluate.people(rows, step) == (1.5, 2)


def test_a_policy_against_itself_has_no_kl(workshop: Workshop, zero: Path, reward_model: Path, tmp_path: Path) -> None:
    """Version 0 as its own candidate: KL exactly 0 and a win rate around one half."""
    inputs = {"candidate": zero, "live": zero, "judge": reward_model, "snapshot": workshop.snapshot.directory}
    evaluate.main(workshop.options(**inputs, live_version=0, out=tmp_path))
    evaluation = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())

    assert evaluation.kl_to_parent.per_completion == 0.0
    assert evaluation.kl_to_base.per_completion == 0.0
    assert 0.3 < evaluation.win_rate < 0.7


def test_evaluate_by_hand(workshop: Workshop, candidate: Path, reward_model: Path, tmp_path: Path) -> None:
    """Without --live the base is the opponent; best-of-n beats one sample by the judge that chose; the figures beside
    the gate are there; the candidate orders held-out votes as raters did."""
    inputs = {"candidate": candidate, "judge": reward_model, "data": workshop.snapshot.directory, "best_of": 16}
    evaluate.main(workshop.options(**inputs, out=tmp_path))
    evaluation = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())
    metrics = GateReport.model_validate_json((tmp_path / "gate.json").read_text()).metrics

    assert evaluation.kl_to_parent == evaluation.kl_to_base
    assert evaluation.best_of is not None
    assert evaluation.best_of.win_rate > 0.75
    assert evaluation.best_of.kl_bound == pytest.approx(1.835089, abs=1e-6)
    assert evaluation.preference_pairs == sum(row.fold == "test" for row in workshop.snapshot.pairs)
    assert (evaluation.preference_accuracy or 0) > 0.8
    for name in ("refusal_rate", "repetition", "distinct_1", "live_distinct_2", "best_of_win_rate", "ai_policy_rows"):
        assert 0 <= metrics[name] <= 1


def test_evaluate_on_a_file_of_prompts(workshop: Workshop, zero: Path, reward_model: Path, tmp_path: Path) -> None:
    """No snapshot is needed; each prompt is asked once however often it stands there."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "w1 w2"}\n{"prompt": "w3"}\n{"prompt": "w3"}\n')
    inputs = {"candidate": zero, "judge": reward_model, "data": tmp_path / "prompts.jsonl"}
    evaluate.main(workshop.options(**inputs, out=tmp_path))
    evaluation = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())

    assert (evaluation.prompts, evaluation.completions) == (2, 80)
    assert evaluation.preference_accuracy is None


def test_a_judge_that_learned_from_an_ai_decides_nothing(
    workshop: Workshop, zero: Path, reward_model: Path, tmp_path: Path
) -> None:
    """Its rows are counted by what the judge was trained on; votes of a judge that is the policy itself are named."""
    kinds = ["ai", "ai_self", *["human"] * 158]
    rows = [pair_row(number, fold="optimize", rater_kind=kind) for number, kind in enumerate(kinds)]
    snapshot = cut(tmp_path, rows, workshop.shapes)

    assert evaluate.ai_rows(snapshot, ["optimize", "judge"]) == {
        "ai_policy_rows": 2,
        "ai_self_policy_rows": 1,
        "judge_ai_rows": 2,
    }
    assert evaluate.ai_rows(snapshot, ["judge"])["judge_ai_rows"] == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trains_policy": False}, "0 usable votes"),
        ({"tie": True}, "0 usable votes"),
        ({"chosen_token_ids": [7, 3], "rejected_token_ids": [7, 3]}, "0 usable votes"),
        ({"chosen_token_ids": [7, 3]}, "same chosen answer"),
    ],
)
def test_a_snapshot_that_cannot_teach_is_skipped(
    workshop: Workshop, zero: Path, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    """Nothing fresh, only ties, only equal answers, or one answer that always wins: skipped, with the reason."""
    rows = [pair_row(number, fold="optimize", **changes) for number in range(40)]
    snapshot = cut(tmp_path, rows, workshop.shapes)

    with pytest.raises(Skipped, match=reason):
        dpo.main(workshop.options(data=snapshot.directory, init_adapter=zero, out=tmp_path / "out"))


def test_ties_alone_make_no_reward_model(workshop: Workshop, tmp_path: Path) -> None:
    snapshot = cut(tmp_path, [pair_row(number, fold="optimize", tie=True) for number in range(40)], workshop.shapes)

    with pytest.raises(Skipped, match="0 usable votes prefer one answer"):
        reward.main(workshop.options(data=snapshot.directory, out=tmp_path / "out"))


def test_a_snapshot_of_another_base_is_refused(workshop: Workshop, zero: Path, tmp_path: Path) -> None:
    other = BaseShapes(sha256="f" * 64, tokenizer_sha256="f" * 64, weights={})
    snapshot = cut(tmp_path, [pair_row(0)], other)

    with pytest.raises(UsageError, match="belongs to another base"):
        dpo.main(workshop.options(data=snapshot.directory, init_adapter=zero, out=tmp_path / "out"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda options: [*options, "--betta", "1"], "unrecognized arguments: --betta 1"),
        (lambda options: options[2:], "required: --base"),
        (lambda options: [*options, "--folds", "optimise"], "'optimise' is no list of optimize, judge, test"),
        (lambda options: ["--base", "nowhere", *options[2:]], "does not hold a base model"),
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(
    workshop: Workshop, change: Callable[[list[str]], list[str]], message: str
) -> None:
    """Said before torch is loaded: these tests would notice five seconds each."""
    options = workshop.options(data=workshop.snapshot.directory, out="out")

    result = run("training.reward", *change(options))

    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_skipping_is_status_3_with_its_reason(workshop: Workshop, zero: Path, tmp_path: Path) -> None:
    """The worker reads the reason from the last line on stdout."""
    snapshot = cut(tmp_path, [pair_row(0)], workshop.shapes)

    result = run("training.dpo", *workshop.options(data=snapshot.directory, init_adapter=zero, out="out"))

    assert result.returncode == 3
    assert "usable votes prefer one answer" in json.loads(result.stdout.splitlines()[-1])["skipped"]
