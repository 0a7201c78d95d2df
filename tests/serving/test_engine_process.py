"""The engine's process is forked from a server, with the environment that its parent has by then."""

import json
import os
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import pytest

from serving import engine_process


def _write_environment(*, path: str) -> None:
    Path(path).write_text(json.dumps(dict(os.environ)))


def test_the_environment_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set or taken away after the server began holds in the process; vLLM completes it in between."""
    monkeypatch.setenv("PLUMBLINE_TEST_OLD", "1")
    forkserver.ensure_running()
    monkeypatch.delenv("PLUMBLINE_TEST_OLD")
    monkeypatch.setenv("PLUMBLINE_TEST_NEW", "2")
    utils = SimpleNamespace(get_mp_context=None)
    with engine_process.forked(utils):
        context = utils.get_mp_context()
    process = context.Process(target=_write_environment, name="test", kwargs={"path": str(tmp_path / "seen")})
    process.start()
    process.join(timeout=60)
    seen = json.loads((tmp_path / "seen").read_text())
    assert (process.exitcode, seen.get("PLUMBLINE_TEST_OLD"), seen.get("PLUMBLINE_TEST_NEW")) == (0, None, "2")


def test_vllm_spawns_as_ever_outside_the_block() -> None:
    """Also if the engine could not be built."""
    utils = SimpleNamespace(get_mp_context="spawning")
    with pytest.raises(RuntimeError, match="no memory"), engine_process.forked(utils):
        assert utils.get_mp_context != "spawning"
        raise RuntimeError("no memory")
    assert utils.get_mp_context == "spawning"
