"""The Celery worker: takes a run's id from the broker and works on the run, one at a time; likewise surveys of votes,
and the comparison of answers that nobody saw.

`python -m training.worker` starts it. The message is only a doorbell, acknowledged at once: what is to be done, by whom
and how often stands in the run's record, so that a lost or doubled message costs nothing but time. No result backend
and no late acknowledgement: each of them loses or repeats hour-long tasks (measured: reliability notes, 1.1).
"""

import logging
import os
import sys
from typing import Any

from celery import Celery  # type: ignore[import-untyped]
from celery.signals import setup_logging, worker_process_init, worker_shutting_down  # type: ignore[import-untyped]
from kombu.exceptions import OperationalError

from core import keys, logs, tracing
from core.errors import UsageError
from core.records import RunState
from core.redis import connect
from core.settings import Settings, settings
from training import pipeline, shadow, survey, trainer

log = logging.getLogger("plumbline.worker")
RUN_ROUND = "plumbline.run_round"
SURVEY = "plumbline.survey"
SHADOW = "plumbline.shadow"
CHECK = "plumbline.check"
"""The scheduler's look at the votes, which is rung for when a survey is done."""
_STOP_READ, _STOP_WRITE = os.pipe()
"""Inherited by the forked child: a byte in it stops the trainer."""


def broker_url(config: Settings) -> str:
    """Celery's broker; it spells Redis over a unix socket in its own way.

    Raises:
        UsageError: there is no Redis to ring at.
    """
    url = config.broker_url or config.redis_url
    if not url:
        raise UsageError("REDIS_URL is not set: `plumbline up` starts Redis and everything else, this needs one.")
    return _celery_url(url)


def _celery_url(url: str) -> str:
    if not url.startswith("unix://"):
        return url
    path, _, query = url.removeprefix("unix://").partition("?")
    database = next((part.removeprefix("db=") for part in query.split("&") if part.startswith("db=")), "0")
    return f"redis+socket://{path}?virtual_host={database}"


def configuration() -> dict[str, Any]:
    """Celery's settings (reliability notes, 1.3), read when they are first needed."""
    return {
        "broker_url": _celery_url(settings().broker_url or settings().redis_url),
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_queue": keys.OPS_QUEUE,
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_max_tasks_per_child": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": _TRANSPORT,
    }


_TRANSPORT: dict[str, Any] = {
    "global_keyprefix": keys.BROKER_PREFIX,
    "visibility_timeout": 3600,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
}

app = Celery("plumbline", set_as_current=True)
app.add_defaults(configuration)


@app.task(name=RUN_ROUND)  # type: ignore[untyped-decorator]
def run_round(run_id: str) -> None:
    """Works on one run; what it comes to stands in the run's record."""
    logs.bind(run_id=run_id)
    try:
        with connect(settings().redis_url) as client, tracing.span("run", {"plumbline.run.id": run_id}):
            run = pipeline.run_round(client, settings(), run_id, stop=_STOP_READ)
            if run is not None:
                tracing.annotate({"plumbline.run.state": str(run.state), "plumbline.run.method": run.method})
    finally:
        tracing.stop()  # this process ends with its task
    if run is not None and run.state is RunState.QUEUED:  # given back: let the next worker know
        ring(run_id)


@app.task(name=SURVEY)  # type: ignore[untyped-decorator]
def look_at_votes(snapshot: str) -> None:
    """Surveys one snapshot; what it comes to lies under the artifacts, or stands in `keys.SURVEY`."""
    with connect(settings().redis_url) as client:
        news = survey.carry_out(client, settings(), snapshot, stop=_STOP_READ)
    if news:
        _ring(CHECK, [], keys.OPS_QUEUE, settings())


@app.task(name=SHADOW)  # type: ignore[untyped-decorator]
def judge_shadow(release_id: str) -> None:
    """Compares answers that nobody saw; what it comes to stands with the release."""
    with connect(settings().redis_url) as client:
        shadow.carry_out(client, settings(), release_id, stop=_STOP_READ)


def ring(run_id: str, config: Settings | None = None) -> None:
    """Tells the workers that a run is waiting. A doorbell that fails is only late: the scheduler rings again."""
    _ring(RUN_ROUND, [run_id], keys.TRAIN_QUEUE, config or settings())


def ring_for_survey(snapshot: str, config: Settings) -> None:
    """The same for a snapshot that is to be surveyed."""
    _ring(SURVEY, [snapshot], keys.TRAIN_QUEUE, config)


def ring_for_shadow(release_id: str, config: Settings) -> None:
    """The same for a release with answers that nobody saw."""
    _ring(SHADOW, [release_id], keys.TRAIN_QUEUE, config)


def _ring(task: str, arguments: list[Any], queue: str, config: Settings) -> None:
    try:
        send(task, arguments, queue=queue, config=config)
    except OperationalError as error:
        log.warning("%s %s: the broker is away, the scheduler will ring again: %s", task, arguments, error)


def send(task: str, arguments: list[Any], *, queue: str, config: Settings) -> None:
    """Leaves a message for a worker on `queue`.

    Raises:
        OperationalError: the broker is away.
    """
    retry_policy = {"max_retries": 2, "interval_start": 0.1, "interval_max": 0.5}
    with app.connection_for_write(broker_url(config)) as connection:
        app.send_task(task, arguments, queue=queue, connection=connection, retry_policy=retry_policy)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _die_with_the_worker(**_: object) -> None:
    """The child that holds a task does not outlive a killed worker, and its trainer does not outlive the child."""
    trainer.die_with(os.getppid())
    tracing.start(settings(), "worker")


@setup_logging.connect  # type: ignore[untyped-decorator]
def _leave_logging_alone(**_: object) -> None:
    """Celery sets logging up by itself unless somebody listens here; `main` has done it."""


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop_the_trainer(**_: object) -> None:
    """SIGTERM: the run is given back at once, instead of holding the shutdown up for hours."""
    os.write(_STOP_WRITE, b"x")


def quiet() -> list[str]:
    """For Celery's command line: its banner is no JSON."""
    return ["--quiet"] if settings().log == "json" else []


def main() -> int:
    try:
        logs.configure(settings(), "worker")
        os.environ["BROKER_URL"] = broker_url(settings())  # Celery's command line reads it too, in its own spelling
    except UsageError as error:
        print(f"plumbline worker: {error}", file=sys.stderr)
        return 2
    arguments = [*quiet(), "worker", "--hostname", "train@%h", "--pool", "prefork", "--concurrency", "1"]
    arguments += ["--queues", keys.TRAIN_QUEUE]
    app.worker_main([*arguments, "--loglevel", "INFO", "--without-gossip", "--without-mingle"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
