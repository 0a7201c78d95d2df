"""`plumbline raters`: who is trusted and why, quarantine and restoration, erasure and how far it is."""

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from plumbline.acting import actor
from plumbline.asking import ask

if TYPE_CHECKING:
    import redis.asyncio

    from core.records import Erasure
    from feedback.rater_review import Action

T = TypeVar("T")
raters_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Raters: how far each is trusted and why, quarantine and its review, erasure.\n\n"
    "Before each round the scheduler judges who votes and sets aside who votes in bad faith. Look at them with "
    "[bold]plumbline raters list --quarantined[/] and [bold]plumbline raters show ID[/]; who was wrongly set aside is "
    "taken back with [bold]plumbline raters restore ID --reason …[/], and their votes count again, those that they "
    "gave meanwhile too.",
)
Rater = Annotated[str, typer.Argument(help="The id by which the application names them.")]
Reason = Annotated[str, typer.Option(help="Why; 1 to 500 characters, kept in the log with your name.")]


@raters_app.command("list")
def raters_list(
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Only those in quarantine.")] = False,
    after: Annotated[str, typer.Option(help="Go on behind this rater.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
) -> None:
    """List whom the last round judged and who is in quarantine, by name."""
    from feedback import rater_lookup
    from plumbline import rater_views

    only = True if quarantined else None
    rater_views.print_page(
        ask(lambda client: rater_lookup.page(client, after=after or None, limit=limit, quarantined=only))
    )


@raters_app.command("show")
def raters_show(rater: Rater) -> None:
    """Show how far a rater is trusted, what they consented to, and who decided what of them, when and why."""
    from feedback import rater_lookup
    from feedback.archive import Archive
    from plumbline import rater_views
    from plumbline.cli import deployment

    archive = Archive(deployment().artifacts)
    rater_views.print_rater(ask(lambda client: rater_lookup.find(client, rater, archive)))


@raters_app.command("quarantine")
def raters_quarantine(rater: Rater, reason: Reason) -> None:
    """Set a rater aside: nothing of theirs is trained on from the next snapshot on.

    Their votes are still taken and kept, and nothing tells them. Policies that learned from them stay as they are.
    """
    _decide(rater, "quarantine", reason)


@raters_app.command("restore")
def raters_restore(rater: Rater, reason: Reason) -> None:
    """Take a rater back, with all their votes.

    The scheduler does not set them aside again for the votes that they had given by then.
    """
    _decide(rater, "restore", reason)


@raters_app.command("erase")
def raters_erase(rater: Rater) -> None:
    """Erase a rater: chats, votes, archive, snapshots, runs. The scheduler does it; asking twice is one job."""
    from feedback import erasure

    _print(ask(lambda client: erasure.request(client, rater)))


@raters_app.command("erasure")
def raters_erasure(job: Annotated[str, typer.Argument(help="As `raters erase` printed it.")]) -> None:
    """Show how far an erasure is, and which policies learned from what is gone."""
    from feedback import erasure

    _print(ask(lambda client: erasure.find(client, job)))


def _decide(rater: str, action: "Action", reason: str) -> None:
    from feedback import rater_lookup, rater_review
    from feedback.archive import Archive
    from plumbline import rater_views
    from plumbline.cli import deployment

    archive = Archive(deployment().artifacts)

    async def decided(client: "redis.asyncio.Redis") -> rater_review.Reviewed:
        await rater_lookup.must_exist(client, rater, archive)
        return await rater_review.review(client, rater, action, reason=reason, actor=actor())

    typer.echo(rater_views.decided(rater, ask(decided)))


def _print(found: "Erasure") -> None:
    from core.records import policy_name

    typer.echo(f"{found.id} {found.state}" + (f": {found.error}" if found.error else ""))
    for name, count in found.counts.items():
        typer.echo(f"  {name:17} {count}")
    typer.echo(f"  {'snapshots':17} {len(found.snapshots)}")
    typer.echo(f"  {'runs':17} {len(found.runs)}")
    typer.echo(f"  {'tainted':17} {', '.join(map(policy_name, found.tainted)) or 'none'}")
