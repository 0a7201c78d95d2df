"""The command line. Nothing heavy is imported before a command needs it: `plumbline --help` is instant."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from core.errors import PlumblineError, UsageError
from plumbline.export_command import export
from plumbline.key_commands import keys_app
from plumbline.leaderboard_command import leaderboard
from plumbline.policy_commands import audit_app, policies_app, releases_app
from plumbline.rater_commands import raters_app
from plumbline.receipt_commands import receipts_app
from plumbline.run_commands import runs_app

if TYPE_CHECKING:
    import redis

    from core.records import Method
    from core.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Serves a language model and keeps improving it from the feedback of the people who use it.\n\n"
    "Start with [bold]plumbline demo[/] (builds a small model and shows the whole loop) or "
    "[bold]plumbline up --base PATH_OR_HUB_ID[/] (serves yours). Settings are `PLUMBLINE_*` variables; see the README.",
)
train_app = typer.Typer(no_args_is_help=True, help="The training programs, by hand and without the service.")
tasks_app = typer.Typer(no_args_is_help=True, help="Tasks of hired raters: add or choose them, see how far they are.")
for name, commands in {"policies": policies_app, "raters": raters_app, "runs": runs_app, "tasks": tasks_app}.items():
    app.add_typer(commands, name=name)
app.add_typer(keys_app, name="keys")
app.add_typer(receipts_app, name="receipts")
app.add_typer(releases_app, name="releases")
app.add_typer(audit_app, name="audit")
app.add_typer(train_app, name="train")


@app.command()
def up(
    base: Annotated[str, typer.Option(help="Path or hub id of a Hugging Face causal LM. \\[env: PLUMBLINE_BASE]")] = "",
    port: Annotated[int, typer.Option(help="Of the public listener. \\[env: PLUMBLINE_PORT]", show_default=False)] = 0,
    home: Annotated[Path | None, typer.Option(help="Where data is kept. \\[env: PLUMBLINE_HOME]")] = None,
) -> None:
    """Run the whole service on this machine: Redis, API, worker, scheduler. Ctrl-C stops everything."""
    from plumbline.stack import Stack

    async def serve() -> None:
        async with Stack(_settings(base=base, port=port, home=home), report=typer.echo) as stack:
            _announce(stack.settings)
            try:
                await asyncio.Event().wait()
            finally:
                typer.echo("\nstopping: streams in flight are finished first")

    _run(serve())


@app.command()
def demo(
    method: Annotated[str, typer.Option(help="How candidates are trained: dpo or ppo.")] = "dpo",
    exit_: Annotated[bool, typer.Option("--exit", help="End after the table instead of staying up.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    port: Annotated[int, typer.Option(help="Of the public listener. \\[env: PLUMBLINE_PORT]", show_default=False)] = 0,
    home: Annotated[Path | None, typer.Option(help="Where data is kept. \\[env: PLUMBLINE_HOME]")] = None,
) -> None:
    """Build a small base model, serve it, and let simulated raters improve it over two rounds."""
    import lab.demo

    known = _method(method)
    settings = _settings(port=port, home=home)
    raise typer.Exit(_run(lab.demo.main(settings, method=known, exit_after=exit_, json_path=json_)))


@app.command()
def init() -> None:
    """Register version 0, before the processes are started one by one (needs REDIS_URL and PLUMBLINE_BASE)."""
    from core.base import resolve_base
    from plumbline import first_version

    config, client = deployment(), redis_client()
    environment = os.environ | config.environment()
    fresh = _run(
        first_version.register(client, config, resolve_base(config.base), environment=environment, actor="init")
    )
    typer.echo("policy version 0 (the base) is registered." if fresh else "this deployment has its version 0 already.")


@app.command()
def serve() -> None:
    """Run the API alone (needs REDIS_URL and PLUMBLINE_BASE)."""
    _become("plumbline.api")


@app.command()
def worker() -> None:
    """Run one training worker alone (needs REDIS_URL and PLUMBLINE_BASE)."""
    _become("training.worker")


@app.command()
def scheduler() -> None:
    """Run the scheduler alone (needs REDIS_URL and PLUMBLINE_BASE)."""
    _become("plumbline.scheduler")


@app.command("ai-rater")
def ai_rater(
    url: Annotated[str, typer.Option(help="The deployment's public listener, e.g. http://localhost:8000.")],
    judge_url: Annotated[str, typer.Option(help="An OpenAI-compatible API, with its /v1.")],
    judge_model: Annotated[str, typer.Option(help="The judge's name there.")],
    constitution: Annotated[Path, typer.Option(help="YAML file of principles, e.g. docs/constitution.yaml.")],
    prompts: Annotated[Path, typer.Option(help='JSONL file of {"prompt": …}: one comparison is made of each.')],
    judge_key: Annotated[str | None, typer.Option(help="The judge's API key.", envvar="OPENAI_API_KEY")] = None,
    api_key: Annotated[
        str | None, typer.Option(help="The deployment's, with scopes chat and feedback.", envvar="PLUMBLINE_API_KEY")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Comparisons under way at a time.")] = 4,
    allow_self_judge: Annotated[bool, typer.Option(help="Even if the judge is a policy of ours.")] = False,
) -> None:
    """Let another model judge comparisons by a written constitution (RLAIF). Snapshots give it at most 30 % of rows."""
    from feedback import ai_rater as rater

    work = rater.run(
        url=url,
        judge_url=judge_url,
        judge_model=judge_model,
        judge_key=judge_key,
        api_key=api_key,
        constitution=constitution,
        prompts=prompts,
        concurrency=concurrency,
        allow_self_judge=allow_self_judge,
    )
    outcomes = asyncio.run(work)
    typer.echo(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "no prompts")


@app.command()
def status() -> None:
    """Show the loop at a glance: live policy, open release, votes towards the next round, the run in progress."""
    from plumbline import views

    views.print_status(redis_client())


app.command()(export)
app.command()(leaderboard)


@tasks_app.command("add")
def tasks_add(file: Annotated[Path, typer.Argument(help="JSON lines, each a task as in POST /v1/tasks.")]) -> None:
    """Add tasks from a file. With an `external_id` in each, doing it twice is doing it once."""
    from plumbline import rater_tasks

    config, refused = deployment(), 0
    redis_client()
    for line, result in rater_tasks.add(config.redis_url, file, window_s=config.feedback_window_s):
        refused += result.error is not None
        typer.echo(f"line {line}: {result.error.message if result.error else result.id}", err=result.error is not None)
    raise typer.Exit(1 if refused else 0)


@tasks_app.command("suggest")
def tasks_suggest(
    count: Annotated[int, typer.Option(min=1, max=500, help="How many tasks to add.")] = 50,
    explore: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the draw that prefers nothing.")] = 0.2,
    overlap: Annotated[int, typer.Option(min=1, max=100, help="How many raters answer each.")] = 1,
    instructions: Annotated[str, typer.Option(help="Markdown for the raters.")] = "",
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher ones are given out first.")] = 0,
) -> None:
    """Add tasks about answers that nobody has compared, mostly where the reward model knows least.

    The last run has listed them. A task and the rows of its votes keep the probability with which it was drawn.
    """
    from plumbline import suggestions

    config = deployment()
    redis_client()
    asked = suggestions.Asked(overlap=overlap, instructions=instructions, priority=priority)
    done = suggestions.suggest(config.redis_url, count, asked, exploration=explore, window_s=config.feedback_window_s)
    for error in done.errors:
        typer.echo(error, err=True)
    typer.echo(f"{done.added} tasks added, out of {done.eligible} pairs that nobody has compared.")
    raise typer.Exit(1 if done.errors else 0)


@tasks_app.command("status")
def tasks_status() -> None:
    """Show how many tasks are open, done and expired."""
    from plumbline import rater_tasks

    typer.echo(rater_tasks.status(redis_client()))


def _trainer(name: str, text: str) -> None:
    @train_app.command(
        name,
        help=text,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def command(context: typer.Context) -> None:
        os.execv(sys.executable, [sys.executable, "-m", f"training.{name}", *context.args])


_trainer("sft", "Train a policy to imitate demonstrations, or the best of its own answers.")
_trainer("reward", "Train a reward model on votes.")
_trainer("dpo", "Train a policy on preference pairs, voted or of its own.")
_trainer("kto", "Train a policy on thumbs.")
_trainer("ppo", "Train a policy against a reward model, on completions of its own.")
_trainer("evaluate", "Measure a policy against another one, and put it to the gate.")


def _settings(*, base: str = "", port: int = 0, home: Path | None = None) -> "Settings":
    """The environment's settings with what the command line overrides."""
    from core.settings import settings

    given = {"base": base, "port": port, "home": home}
    return settings().model_copy(update={name: value for name, value in given.items() if value})


def _method(name: str) -> "Method":
    from core.records import Method

    for known in get_args(Method):
        if name == known:
            return cast("Method", known)
    raise UsageError(f"--method is {' or '.join(get_args(Method))}, not {name!r}.")


def deployment() -> "Settings":
    """The settings with the deployment's Redis: REDIS_URL, else the one of `plumbline up` under PLUMBLINE_HOME."""
    from plumbline import embedded_redis

    config = _settings()
    return config.model_copy(update={"redis_url": config.redis_url or embedded_redis.url(config.directory / "redis")})


def redis_client() -> "redis.Redis":
    """A client of the deployment's Redis."""
    import redis

    from core.redis import connect

    url = deployment().redis_url
    client = connect(url)
    try:
        client.ping()
    except redis.exceptions.RedisError:
        raise UsageError(
            f"Redis at {url} does not answer: start the stack with `plumbline up`, or set REDIS_URL."
        ) from None
    return client


def _announce(config: "Settings") -> None:
    typer.secho(f"\nChat page   http://{config.host}:{config.port}/", bold=True)
    typer.echo(f"API         http://{config.host}:{config.port}/v1  (any OpenAI client; model `assistant`)")
    typer.echo(f"Metrics     http://{config.admin_host}:{config.admin_port}/metrics")
    consent = "may" if config.train_by_default else "may not"
    typer.echo(f"Chats {consent} be trained on unless a request says otherwise (PLUMBLINE_TRAIN_BY_DEFAULT).")
    typer.echo("Ctrl-C stops everything.")


def _run(work: Coroutine[object, object, object]) -> int:
    """Runs `work` on a fresh loop and returns its status; 130 after Ctrl-C or SIGTERM, which cancel it."""

    async def interruptible() -> object:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    from core import logs
    from core.settings import settings

    try:
        logs.configure(settings(), "cli", level="WARNING")
    except UsageError:
        work.close()
        raise
    try:
        return int(asyncio.run(interruptible()) or 0)  # type: ignore[call-overload]
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 130


def _become(module: str) -> None:
    """Replaces this process: signals and exit status are then the program's own."""
    os.execv(sys.executable, [sys.executable, "-m", module])


def main() -> None:
    try:
        app()
    except PlumblineError as error:
        typer.echo(f"plumbline: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
