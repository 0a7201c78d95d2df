"""Two processes (gloo, CPU): the training of one process, and every file once."""

import json
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from core.adapters import WEIGHTS
from tests import warm
from training import dpo, kto, reward
from training.data import split
from training.devices import Devices

SETTINGS = ["lora.rank=2", "precision=float32", "threads=1", "batch_rows=10", "epochs=2", "learning_rate=0.001"]
SETTINGS += ["min_reward_pairs=10", "sampling.max_new_tokens=4", "reward.reference_samples=32"]
SETTINGS += ["dpo.kl_samples=4", "kto.kl_samples=4"]


def write_uneven_votes(path: Path) -> Path:
    """40 rows whose lengths and weights differ widely, so that two halves of a step never weigh the same."""
    with path.open("w") as stream:
        for number in range(40):
            answers = {"chosen": "w1 " * (1 + number % 9) + "w40", "rejected": "w2 " * (1 + number % 5) + f"w{number}"}
            row = {"prompt": "w3 " * (1 + number % 13), "weight": 0.5 + number % 4} | answers
            stream.write(json.dumps(row) + "\n")
    return path


def write_uneven_thumbs(path: Path) -> Path:
    """The same with thumbs."""
    with path.open("w") as stream:
        for number in range(40):
            answer = f"w{1 + number % 2} " * (1 + number % 9) + f"w{number}"
            row = {"prompt": "w3 " * (1 + number % 13), "completion": answer, "label": number % 2 == 0}
            stream.write(json.dumps(row | {"weight": 0.5 + number % 4}) + "\n")
    return path


def options(base: Path, data: Path, out: Path) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return ["--base", str(base), "--data", str(data), "--out", str(out), *settings]


RANKS = ["0 of 2, 2 in touch", "1 of 2, 2 in touch"]


def on_two(said: Path, program: str, *arguments: str) -> str:
    """What two processes said that were told of each other as torchrun tells them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    logs = [said / f"rank-{rank}" for rank in range(2)]
    ranks = [where | {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    both = [warm.start(program, *arguments, environment=rank, log=log) for rank, log in zip(ranks, logs, strict=True)]
    for process, log in zip(both, logs, strict=True):
        process.join()
        assert process.exitcode == 0, log.with_name(log.name + ".err").read_text()
    return "".join(log.read_text() for log in logs)


def test_torchrun_tells_processes_of_each_other() -> None:
    """And what it tells them is what the tests below tell theirs, which need not import torch."""
    launch = ["--nproc-per-node", "2", "--standalone", "-m", "tests.training.rank"]
    done = warm.run("torch.distributed.run", *launch, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == RANKS


def test_so_do_the_same_variables(tmp_path: Path) -> None:
    """As everything below is started."""
    assert on_two(tmp_path, "tests.training.rank").splitlines() == RANKS


@pytest.mark.parametrize("program", [dpo, reward, kto], ids=["dpo", "reward", "kto"])
def test_two_processes_train_as_one(program, qwen_directory: Path, tmp_path: Path) -> None:
    """Traps 14 and 16: losses and gradient norms of every step, and the adapter, are those of one process, with rows
    of unequal length and weight; KTO's baseline is of the whole step; the program's files are there once, and one
    process speaks."""
    data = (write_uneven_thumbs if program is kto else write_uneven_votes)(tmp_path / "rows.jsonl")
    one, two = tmp_path / "one", tmp_path / "two"
    program.main(options(qwen_directory, data, one))
    given = options(qwen_directory, data, two)
    said = on_two(tmp_path, program.__name__, *given)
    steps = [[json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] for out in (one, two)]
    ours, theirs = (load_file(out / WEIGHTS) for out in (one, two))

    assert len(steps[0]) == len(steps[1]) > 2
    for alone, together in zip(*steps, strict=True):
        if alone["step"] == 0 and program is not reward:  # every margin is 0 yet, and its sign is that of rounding
            alone["accuracy"] = together["accuracy"]
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=2e-5)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    assert json.loads((two / "config.json").read_text())["devices"] == 2
    spoken = [json.loads(line)["progress"] for line in said.splitlines() if line.startswith("{")]
    assert spoken == sorted(spoken)


def test_a_sharded_base_trains_as_a_whole_one(qwen_directory: Path, tmp_path: Path) -> None:
    """FSDP2 over two processes, with an odd number of micro-batches in a step: steps and adapter are as of one."""
    data = write_uneven_thumbs(tmp_path / "rows.jsonl")
    more = ["--set", "micro_batch_tokens=90"]
    kto.main([*options(qwen_directory, data, tmp_path / "one"), *more])
    given = [*options(qwen_directory, data, tmp_path / "two"), *more, "--set", "shard=true"]
    on_two(tmp_path, kto.__name__, *given)
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )

    for alone, together in zip(one[1:], two[1:], strict=True):
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)
    ours, theirs = (load_file(tmp_path / name / WEIGHTS) for name in ("one", "two"))
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=2e-5)


def test_each_process_holds_its_part(qwen_directory: Path, tmp_path: Path) -> None:
    """Of every layer half the weights, on two."""
    assert on_two(tmp_path, "tests.training.share_of_a_sharded_base", str(qwen_directory)) == "0.5\n0.5\n"


@given(st.integers(0, 30), st.integers(1, 8))
def test_with_a_spare_item_all_take_equally_many(count: int, processes: int) -> None:
    """Every item is taken once, and whoever has fewer takes one more for nothing."""
    items = list(range(count))
    parts = [Devices(rank=rank, count=processes, device=torch.device("cpu")) for rank in range(processes)]

    assert sorted(item for part in parts for item in part.mine(items)) == items
    assert len({len(part.mine(items)) + len(part.spare(items)) for part in parts}) == 1
    assert all(len(part.spare(items)) <= 1 for part in parts)


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=9), max_size=5), st.integers(1, 8))
def test_every_device_gets_a_group_where_there_are_rows(groups: list[list[int]], parts: int) -> None:
    """No row is lost or doubled, no group is empty, and there are as many groups as devices, if rows suffice."""
    found = split(groups, parts=parts)
    rows = [row for group in groups for row in group]

    assert sorted(row for group in found for row in group) == sorted(rows)
    assert all(found)
    assert len(found) == max(len(groups), min(parts, len(rows)))
