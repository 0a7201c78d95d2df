"""`plumbline export`: a snapshot's rows in the formats of others."""

from pathlib import Path
from typing import Annotated

import typer

from core.errors import UsageError


def export(
    snapshot: Annotated[str, typer.Argument(help="A snapshot's directory, the beginning of its id, or `latest`.")],
    form: Annotated[str, typer.Option("--format", help="trl-preference, trl-kto, trl-sft, openai-dpo, raw or events.")],
    out: Annotated[Path, typer.Option(help="The file to write (JSON lines); - is standard output.")],
    fold: Annotated[str, typer.Option(help="optimize, judge or test; all without it.")] = "",
) -> None:
    """Write a snapshot's rows for other programs, or for other people to look at. `events` is the log behind them."""
    import redis

    from core.redis import connect
    from feedback import export as exports
    from feedback import log
    from feedback.archive import Archive
    from plumbline.cli import deployment

    kinds = [known for known in exports.FORMATS if known == form]
    folds = [known for known in exports.FOLDS if fold in ("", known)]
    if not kinds or not folds:
        raise UsageError(f"--format is {', '.join(exports.FORMATS)}; --fold is {', '.join(exports.FOLDS)}.")
    if form == "events" and fold:
        raise UsageError("Events are in no fold: leave --fold out.")
    config = deployment()
    directory = _directory(snapshot, config.artifacts / "snapshots")
    target = out if str(out) != "-" else None
    try:
        with connect(config.redis_url) as client:
            entries = log.entries(client, Archive(config.artifacts))
            written = exports.export(directory, kinds[0], target, folds=folds, log=entries)
    except redis.RedisError:
        raise UsageError(f"Redis at {config.redis_url} does not answer, and events lie there.") from None
    left_out = ", ".join(f"{count} {reason}" for reason, count in written.skipped.items())
    typer.echo(f"{written.rows} rows; left out: {left_out or 'none'}", err=True)


def _directory(name: str, parent: Path) -> Path:
    """A snapshot, given as its directory, as the beginning of its id or as `latest`."""
    from feedback import snapshots

    if name == snapshots.LATEST:
        return parent / snapshots.with_rows(parent, name).id
    if (Path(name) / "manifest.json").exists():
        return Path(name)
    found = [path for path in parent.glob("*/manifest.json") if name and path.parent.name.startswith(name)]
    if len(found) != 1:
        raise UsageError(f"{len(found)} snapshots begin with {name!r}: give a directory, or more of an id in {parent}.")
    return found[0].parent
