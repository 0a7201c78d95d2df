"""Log lines for people and for machines."""

import asyncio
import io
import json
import logging
import logging.config
from pathlib import Path
from typing import Any

import pytest

from core import logs
from core.settings import Settings


def logged(logger: logging.Logger) -> tuple[logging.Handler, io.StringIO]:
    """A handler with the formatter that `json` gives every process."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines("api"))
    logger.addHandler(handler)
    logger.setLevel("INFO")
    return handler, stream


@pytest.fixture
def lines() -> Any:
    """Logs with the function it gives, and returns the objects."""
    logger = logging.Logger("plumbline.test")
    _, stream = logged(logger)

    def read(log: Any) -> list[dict[str, Any]]:
        log(logger)
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return read


def test_a_line_is_one_object(lines: Any) -> None:
    """Who, when, how bad, what; line breaks and quotes stay inside."""
    (line,) = lines(lambda logger: logger.warning('%d votes of "x"\nwait', 3))
    assert line["message"] == '3 votes of "x"\nwait'
    assert (line["level"], line["logger"], line["process"]) == ("WARNING", "plumbline.test", "api")
    assert line["time"].endswith("+00:00") and {"pid", "version"} <= line.keys()


def test_an_exception_stands_in_its_line(lines: Any) -> None:
    def fail(logger: logging.Logger) -> None:
        try:
            raise ValueError("odd")
        except ValueError:
            logger.exception("it failed")

    (line,) = lines(fail)
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: odd")


def test_what_is_bound_belongs_to_one_task(lines: Any) -> None:
    """Two requests at once: each line carries its own request's id, and later lines carry none."""

    async def request(logger: logging.Logger, name: str) -> None:
        logs.bind(request_id=name)
        await asyncio.sleep(0)
        logger.info("from %s", name)

    async def both(logger: logging.Logger) -> None:
        await asyncio.gather(*(asyncio.create_task(request(logger, name)) for name in ("r-1", "r-2")))
        logger.info("from nobody")

    found = lines(lambda logger: asyncio.run(both(logger)))
    assert {line["message"]: line.get("request_id") for line in found} == {
        "from r-1": "r-1",
        "from r-2": "r-2",
        "from nobody": None,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_library_can_be_given_the_same(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is `logging.config`'s: vLLM reads it in each of its processes."""
    path = tmp_path / "logs" / "engine.json"
    logs.write_config(Settings(log=form), "engine", logger="library", level="WARNING", path=path)
    logging.config.dictConfig(json.loads(path.read_text()))
    library = logging.getLogger("library.part")
    library.info("unheard")
    library.warning("heard")
    logging.getLogger("library").handlers.clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert ("heard" in line, line.startswith("{")) == (True, form == "json")
