"""`plumbline policies`, `plumbline releases` and `plumbline audit`: what is served, how it came there, and by whom."""

from typing import Annotated

import typer

from core.errors import UsageError
from plumbline.acting import Reason, actor, given

policies_app = typer.Typer(
    no_args_is_help=True,
    help="Policy versions: what exists, where it comes from, what is live, promotion and rollback.",
)
releases_app = typer.Typer(no_args_is_help=True, help="Releases: the staged way of a candidate into traffic.")
audit_app = typer.Typer(no_args_is_help=True, help="The audit trail: every change, chained by hashes.")
Version = Annotated[int, typer.Argument(help="The number N of assistant@vN.", min=0)]


@policies_app.command("list")
def policies_list() -> None:
    """List all versions, newest last."""
    from plumbline import views
    from plumbline.cli import redis_client

    views.print_policies(redis_client())


@policies_app.command("show")
def policies_show(version: Version) -> None:
    """Show one version with its gate report."""
    from plumbline import views
    from plumbline.cli import redis_client

    views.print_policy(redis_client(), version)


@policies_app.command("lineage")
def policies_lineage(version: Version) -> None:
    """Show where a version comes from: its votes, its parent, the parent's votes, down to version 0."""
    from plumbline import policies, policy_views
    from plumbline.cli import deployment, redis_client

    policy_views.print_lineage(policies.lineage(redis_client(), deployment().artifacts, version))


@policies_app.command("diff")
def policies_diff(before: Version, after: Version) -> None:
    """Show how two versions differ: people's votes, gate, recipe, snapshot, and the way from one to the other."""
    from core import registry
    from feedback import head_to_head
    from feedback.archive import Archive
    from plumbline import policies, policy_views
    from plumbline.cli import deployment, redis_client

    client, artifacts = redis_client(), deployment().artifacts
    for version in (before, after):
        registry.policy(client, version)  # before the log is read, which may take seconds
    people = head_to_head.read(client, Archive(artifacts), before, after)
    policy_views.print_difference(policies.difference(client, artifacts, people))


@policies_app.command("promote")
def policies_promote(
    version: Version,
    reason: Reason,
    force: Annotated[bool, typer.Option("--force", help="Without waiting for people's votes.")] = False,
) -> None:
    """Make a version live by hand. The open release is stopped, whosever it is.

    Otherwise releases promote: a candidate that passed its gate goes live when enough people preferred it.
    """
    from core import registry
    from plumbline.cli import redis_client

    if not force:
        raise UsageError("People's votes promote (`plumbline releases list`). To do it without them, add --force.")
    before = registry.promote(redis_client(), version, actor=actor(), reason=given(reason))
    typer.echo(f"assistant@v{version} is live, instead of v{before}.")


@policies_app.command("release")
def policies_release(version: Version, reason: Reason) -> None:
    """Open the release of a candidate that waits. Those whose gate compared them with the live version come by
    themselves, once no other release is open."""
    from core import releases
    from plumbline import policy_views
    from plumbline.cli import deployment, redis_client

    stage = releases.first_stage(deployment().shadow)
    opened = releases.begin(redis_client(), version, stage=stage, reason=given(reason), actor=actor())
    typer.echo(policy_views.opened(opened))


@policies_app.command("rollback")
def policies_rollback(reason: Reason) -> None:
    """Make the live version's parent live again, and stop the open release. Takes effect without a restart."""
    from core import registry
    from plumbline.cli import redis_client

    version = registry.rollback(redis_client(), actor=actor(), reason=given(reason))
    typer.echo(f"assistant@v{version} is live.")


@policies_app.command("history")
def policies_history() -> None:
    """Show every entry of the audit trail: who, when, why."""
    from plumbline import views
    from plumbline.cli import redis_client

    views.print_history(redis_client())


@releases_app.command("list")
def releases_list() -> None:
    """List all releases, newest last."""
    from core import releases
    from plumbline import policy_views
    from plumbline.cli import redis_client

    policy_views.print_releases(releases.releases(redis_client()))


@releases_app.command("show")
def releases_show(release: Annotated[str, typer.Argument(help="Its id, `rel_7`.")]) -> None:
    """Show one release, what the judge said of unseen answers, and what people said."""
    from core import evidence, releases, shadow
    from plumbline import policy_views
    from plumbline.cli import redis_client

    client = redis_client()
    found = releases.release(client, release)
    policy_views.print_release(found, evidence.load(client, release), shadow.load(client, release))


@releases_app.command("stop")
def releases_stop(release: Annotated[str, typer.Argument(help="Its id, `rel_7`.")], reason: Reason) -> None:
    """End the open release: the incumbent answers everybody again, the candidate is retired."""
    from core import releases
    from plumbline.cli import redis_client

    client = redis_client()
    releases.release(client, release)  # else there is no such one to stop
    releases.end(client, release, state="stopped", actor=actor(), reason=given(reason))
    typer.echo(f"{release} is stopped.")


@audit_app.command("list")
def audit_list() -> None:
    """Show every entry: who, when, why."""
    policies_history()


@audit_app.command("verify")
def audit_verify(
    head: Annotated[
        str, typer.Option(help="A hash that this command printed before; it must stand in the chain.")
    ] = "",
) -> None:
    """Check that no entry was edited, dropped, added or moved. Exit status 1 if one was.

    Note the hash that it prints somewhere else: who can write to Redis can write a whole new chain, and only somebody
    with a hash of the old one notices.
    """
    from core import audit
    from plumbline import policy_views
    from plumbline.cli import redis_client

    found = audit.check(redis_client(), expected=head or None)
    if found.fault:
        typer.echo(f"{found.fault}. {found.entries} entries before that are as they were written.", err=True)
        raise typer.Exit(1)
    typer.echo(policy_views.verified(found))
