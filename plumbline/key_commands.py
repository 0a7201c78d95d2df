"""`plumbline keys`: make, list and revoke API keys, and what each used."""

import fcntl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from core.errors import UsageError
from plumbline.acting import Reason, actor, given

if TYPE_CHECKING:
    import redis

    from core.access import Scope
    from core.api_keys import Standing
    from core.settings import Settings

keys_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="API keys. On this machine alone none are needed until there is one; on a public address always.\n\n"
    "Scopes: [bold]chat[/] (chat and comparisons), [bold]feedback[/] (votes, receipts, consent), [bold]read[/] (lists "
    "of votes; metrics and whatever operators look at), [bold]train[/] (training runs), [bold]admin[/] (all that "
    "operators change, and keys).",
)
_Count = Annotated[int | None, typer.Option(min=1, show_default="no limit")]


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="What it is for.")],
    scopes: Annotated[str, typer.Option(help="With commas between: chat,feedback,read,train,admin.")],
    tenant: Annotated[str, typer.Option(help="Whose it is; empty for the deployment itself.")] = "",
    requests_per_minute: _Count = None,
    tokens_per_minute: _Count = None,
    tokens_per_day: _Count = None,
    concurrency: _Count = None,
    votes_per_minute: _Count = None,
    expires_days: Annotated[float | None, typer.Option(min=0.01, show_default="never")] = None,
) -> None:
    """Make a key and print its token: this once."""
    from core import api_keys
    from core.access import Limits
    from core.records import now
    from core.secret import check, secret
    from plumbline.cli import deployment

    config = deployment()
    hashing = secret(config)
    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        tokens_per_day=tokens_per_day,
        concurrency=concurrency,
        votes_per_minute=votes_per_minute,
    )
    token, key = api_keys.mint(
        hashing,
        name=name,
        scopes=_scopes(scopes),
        tenant=tenant,
        limits=limits,
        expires=None if expires_days is None else now() + expires_days * 86400,
        actor=actor(),
    )
    with _redis(config) as client:
        check(client, hashing)
        api_keys.create(client, key)
    typer.echo(f"{key.id}: this token is shown once, keep it now.", err=True)
    typer.echo(token)


@keys_app.command("list")
def keys_list() -> None:
    """List all keys, oldest first; revoked ones stay."""
    from core import api_keys
    from plumbline.cli import deployment

    with _redis(deployment()) as client:
        for it in api_keys.all_keys(client):
            typer.echo(_line(it))


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="Its id, as `keys list` shows it.")],
    reason: Reason,
) -> None:
    """Revoke a key: every replica refuses it within two seconds."""
    from core import api_keys
    from plumbline.cli import deployment

    with _redis(deployment()) as client:
        new = api_keys.revoke(client, key, actor=actor(), reason=given(reason))
    typer.echo(f"{key} is revoked." if new else f"{key} was revoked before.")


@keys_app.command("usage")
def keys_usage(
    key: Annotated[str, typer.Argument(help="Its id, as `keys list` shows it; `page`: all visitors of the page.")],
) -> None:
    """Show what a key used, by day (UTC)."""
    from core import api_keys, usage
    from plumbline.cli import deployment

    with _redis(deployment()) as client:
        if key not in {usage.PAGE, *(it.key.id for it in api_keys.all_keys(client))}:
            raise UsageError(f"There is no key {key!r}; `plumbline keys list` shows all.")
        days = usage.by_day(client, key)
    typer.echo(f"{'day':10} {'requests':>9} {'prompt':>10} {'completion':>10} {'votes':>7}")
    for it in days:
        used = f"{it.requests:9} {it.prompt_tokens:10} {it.completion_tokens:10} {it.votes:7}"
        typer.echo(f"{it.date.isoformat()} {used}")


def _scopes(text: str) -> "list[Scope]":
    from core.access import Scope

    known = get_args(Scope)
    given = [part.strip() for part in text.split(",")]
    if unknown := [part for part in given if part not in known]:
        raise UsageError(f"--scopes takes {', '.join(known)}; not {unknown[0]!r}.")
    return cast("list[Scope]", given)


def _line(it: "Standing") -> str:
    from core.records import now

    state = "good" if it.good(now=now()) else "expired" if it.revoked is None else "revoked"
    limits = [f"{name}={value}" for name, value in it.key.limits.model_dump(exclude_none=True).items()]
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(it.key.created))
    parts = [it.key.id, f"{state:7}", made, f"{it.key.tenant or '(deployment)':12}", ",".join(it.key.scopes)]
    return "  ".join([*parts, repr(it.key.name), *limits])


@contextmanager
def _redis(config: "Settings") -> "Iterator[redis.Redis]":
    """The deployment's Redis; the stack's own is started for this command alone where no stack runs, since a stack on
    a public address does not start before there is a key."""
    from redis.exceptions import RedisError

    from core.redis import connect

    client = connect(config.redis_url)
    try:
        client.ping()
        own = None
    except RedisError:
        own = _start_own(config, client)
    try:
        yield client
    finally:
        client.close()
        if own is not None:
            own.terminate()
            own.wait()


def _start_own(config: "Settings", client: "redis.Redis") -> "subprocess.Popen[bytes]":
    """Raises UsageError: the Redis is not ours to start, or a stack that uses it is just starting or stopping."""
    from core.settings import settings
    from plumbline import embedded_redis

    if settings().redis_url:
        raise UsageError(f"Redis at {config.redis_url} does not answer.")
    config.directory.mkdir(parents=True, exist_ok=True)
    with (config.directory / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError("The stack is just starting or stopping: try again.") from None
        server = subprocess.Popen(embedded_redis.command(config.directory / "redis"), stdout=subprocess.DEVNULL)
        return _answering(server, client)


def _answering(server: "subprocess.Popen[bytes]", client: "redis.Redis") -> "subprocess.Popen[bytes]":
    from redis.exceptions import RedisError

    for _ in range(100):
        try:
            client.ping()
            return server
        except RedisError:
            time.sleep(0.1)
    server.terminate()
    raise UsageError("Redis did not start; `plumbline up` says why.")
