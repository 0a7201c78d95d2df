"""`plumbline receipts`: the keys that sign the tokens with which browsers vote."""

import time
from typing import TYPE_CHECKING

import typer

from core.errors import UsageError
from plumbline.asking import ask
from plumbline.local_time import local_time

if TYPE_CHECKING:
    from feedback.receipts import KeyRing

receipts_app = typer.Typer(
    no_args_is_help=True,
    help="Keys of receipts, the tokens with which browsers vote. The newest key signs, the others only verify. "
    "A new one comes by itself every 30 days: [bold]rotate[/] makes one now, [bold]retire[/] ends one that leaked.",
)


@receipts_app.command("list")
def receipts_list() -> None:
    """List the keys, newest first: since when each signs, and how long its receipts are good. Secrets are not shown."""
    from feedback import receipt_keys

    _print(ask(receipt_keys.ring))


@receipts_app.command("rotate")
def receipts_rotate() -> None:
    """Sign with a fresh key from now on. Receipts that were given out before stay good until they expire."""
    from core.records import now
    from feedback import receipt_keys

    _print(ask(lambda client: receipt_keys.change(client, lambda ring: ring.rotated(now=now()))))


@receipts_app.command("retire")
def receipts_retire(key: str) -> None:
    """Refuse a key from now on, and with it every receipt that it signed: pages must ask for new ones."""
    from core.records import now
    from feedback import receipt_keys

    known = [it.id for it in ask(receipt_keys.ring).keys]
    if key not in known:
        raise UsageError(f"There is no key {key!r}; `plumbline receipts list` shows all.")
    _print(ask(lambda client: receipt_keys.change(client, lambda ring: ring.without(key, now=now()))))


def _print(ring: "KeyRing") -> None:
    from feedback.receipts import MAX_LIFE_S

    successors = [None, *ring.keys]
    for key, successor in zip(ring.keys, successors, strict=False):
        until = None if successor is None else successor.created + MAX_LIFE_S
        typer.echo(f"{key.id}  since {local_time(key.created)}  {_standing(until)}")


def _standing(until: float | None) -> str:
    if until is None:
        return "signs"
    return f"verifies until {local_time(until)}" if until > time.time() else "has no receipts left"
