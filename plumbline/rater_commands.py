"""`plumbline raters`: who is trusted and why, quarantine and restoration, invitations, erasure and how far it is."""

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from core.errors import UsageError
from plumbline.acting import Reason, actor, given
from plumbline.asking import ask
from plumbline.local_time import local_time

if TYPE_CHECKING:
    import redis.asyncio

    from core.records import Erasure
    from feedback.rater_review import Action

T = TypeVar("T")
raters_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Raters: how far each is trusted and why, quarantine and its review, invitations to the page, erasure.\n\n"
    "Before each round the scheduler judges who votes and sets aside who votes in bad faith. Look at them with "
    "[bold]plumbline raters list --quarantined[/] and [bold]plumbline raters show ID[/]; who was wrongly set aside is "
    "taken back with [bold]plumbline raters restore ID --reason …[/], and their votes count again, those that they "
    "gave meanwhile too.",
)
Rater = Annotated[str, typer.Argument(help="The id by which the application names them.")]


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


@raters_app.command("invite")
def raters_invite(
    rater: Annotated[str, typer.Argument(help="Whom their answers are credited to: a name of your choice.")],
    days: Annotated[int, typer.Option(min=1, max=365, help="How long the invitation stands.")] = 30,
    url: Annotated[str, typer.Option(help="Where the rater reaches the page; by default this machine does.")] = "",
) -> None:
    """Invite a rater to the page, and print the link: who opens it does tasks there under this name.

    Whoever has the link can be this rater. An earlier invitation of theirs ends.
    """
    from core.secret import check, secret
    from feedback import invitations
    from plumbline.cli import deployment, redis_client

    config, client = deployment(), redis_client()
    signing = secret(config)
    check(client, signing)
    it = invitations.invite(client, rater, days=days, actor=actor())
    page = url.rstrip("/") or f"http://localhost:{config.port}"
    typer.echo(f"{rater} is invited until {local_time(it.expires)}; this link is shown once, keep it now.", err=True)
    typer.echo(page + invitations.link(invitations.signing_key(signing), it))


@raters_app.command("invited")
def raters_invited() -> None:
    """List who is invited to the page, until when and by whom."""
    from feedback import invitations
    from plumbline.cli import redis_client

    for it in invitations.standing(redis_client()):
        typer.echo(f"{it.rater}  until {local_time(it.expires)}  by {it.actor}")


@raters_app.command("dismiss")
def raters_dismiss(rater: Rater, reason: Reason) -> None:
    """End a rater's invitation, with its link and every session that came of it. What they voted stays."""
    from feedback import invitations
    from plumbline.cli import redis_client

    if not invitations.dismiss(redis_client(), rater, actor=actor(), reason=given(reason)):
        raise UsageError(f"{rater} is not invited; `plumbline raters invited` shows who is.")
    typer.echo(f"{rater} is not invited any more.")


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
