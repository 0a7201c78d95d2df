"""`plumbline runs`: what was trained, a round now, and an end or another try for one."""

import time
from typing import Annotated

import typer

from core.errors import UsageError
from plumbline.acting import Reason, actor, given

runs_app = typer.Typer(no_args_is_help=True, help="Training runs: one is one round of the loop.")
Prefix = Annotated[str, typer.Argument(metavar="RUN", help="Its id; the beginning is enough.")]


@runs_app.command("list")
def runs_list() -> None:
    """List all runs, newest last."""
    from plumbline import views
    from plumbline.cli import redis_client

    views.print_runs(redis_client())


@runs_app.command("show")
def runs_show(run: Prefix) -> None:
    """Show one run."""
    from plumbline import views
    from plumbline.cli import redis_client

    views.print_run(redis_client(), _id(run))


@runs_app.command("start")
def runs_start(reason: Reason) -> None:
    """Start a round now, however few new votes there are."""
    from plumbline import views
    from plumbline.cli import deployment, redis_client
    from plumbline.scheduler import request_round
    from training import runs

    client = redis_client()
    known = {run.id for run in runs.all_runs(client)}
    request_round(client, deployment(), actor=actor(), reason=given(reason))
    for _ in range(40):
        time.sleep(0.5)
        if started := [run for run in runs.all_runs(client) if run.id not in known]:
            typer.echo(views.describe(started[0]))
            return
    typer.echo(f"No run was started: {views.next_round(client, now=time.time())}.")


@runs_app.command("retry")
def runs_retry(run: Prefix, reason: Reason) -> None:
    """Queue a failed, skipped or cancelled run again, with fresh attempts. Finished stages are kept."""
    from plumbline.cli import deployment, redis_client
    from training import runs
    from training.worker import ring

    run_id = _id(run)
    runs.retry(redis_client(), run_id, actor=actor(), reason=given(reason))
    ring(run_id, deployment())
    typer.echo(f"run {run_id} is queued.")


@runs_app.command("cancel")
def runs_cancel(run: Prefix, reason: Reason) -> None:
    """Cancel a queued or running run; its trainer is stopped within a heartbeat."""
    from plumbline.cli import redis_client
    from training import runs

    run_id = _id(run)
    runs.cancel(redis_client(), run_id, actor=actor(), reason=given(reason))
    typer.echo(f"run {run_id} is cancelled.")


@runs_app.command("logs")
def runs_logs(run: Prefix) -> None:
    """Print what the trainers of a run said, all attempts in order."""
    from plumbline.cli import deployment

    directory = deployment().artifacts / "runs" / _id(run)
    files = sorted(directory.glob("attempt-*/*.log"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise UsageError(f"There are no logs under {directory} on this machine.")
    for file in files:
        typer.secho(f"== {file.relative_to(directory)}", bold=True)
        typer.echo(file.read_text(errors="replace"))


def _id(prefix: str) -> str:
    from plumbline.cli import redis_client
    from training import runs

    found = [run.id for run in runs.all_runs(redis_client()) if run.id.startswith(prefix)]
    if len(found) != 1:
        raise UsageError(f"{len(found)} runs begin with {prefix!r}; `plumbline runs list` shows all.")
    return found[0]
