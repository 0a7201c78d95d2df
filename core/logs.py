"""How our processes log: lines for people (`PLUMBLINE_LOG=text`) or an object a line for machines (`json`).

A JSON line says `time` (RFC 3339, UTC), `level`, `logger`, `message`, `process`, `pid`, `version` (of Plumbline), what
`bind` was given where it was logged (`request_id`, `run_id`), `trace_id` and `span_id` inside a span, and `exception`.
What people write is not logged: no line of ours takes a prompt, an answer or a comment, in either format.

Left out: a line for each request (metrics count them and traces time them), Redis's own lines, and what trainers say
on stderr, which lies beside their results (`{stage}.log`).
"""

import json
import logging
import logging.config
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from core import tracing

if TYPE_CHECKING:
    from core.settings import Settings

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_BOUND: ContextVar[Mapping[str, str | int]] = ContextVar("plumbline_log", default=MappingProxyType({}))


def configure(settings: "Settings", process: str, *, level: str = "INFO") -> None:
    """Sets up this process, once, before it does anything else.

    Args:
        process: what it is called in JSON lines: `api`, `worker`, `scheduler`, `up`.
    """
    logging.config.dictConfig(_config(settings, process, {"": {"level": level, "handlers": ["stderr"]}}))
    logging.captureWarnings(True)
    if settings.log == "json":
        sys.excepthook = _uncaught


def write_config(settings: "Settings", process: str, *, logger: str, level: str, path: Path) -> None:
    """Leaves the same as a file for `logging.config.dictConfig`: for one logger of a library that sets itself up."""
    own = {logger: {"level": level, "handlers": ["stderr"], "propagate": False}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_config(settings, process, own)))


def bind(**fields: str | int) -> None:
    """Adds fields to every line that is logged from here on in this task, thread or process."""
    _BOUND.set({**_BOUND.get(), **fields})


class JsonLines(logging.Formatter):
    """One object a line. `process` as in `configure`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process
        self._version = metadata.version("plumbline")

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
            "pid": record.process,
            "version": self._version,
            **_BOUND.get(),
            **tracing.ids(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def _config(settings: "Settings", process: str, loggers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """In `logging.config`'s schema."""
    lines = {"()": "core.logs.JsonLines", "process": process} if settings.log == "json" else {"format": TEXT}
    stderr = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "lines"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": lines},
        "handlers": {"stderr": stderr},
        "loggers": loggers,
    }


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("plumbline").critical("ends with an error", exc_info=(kind, error, trace))
