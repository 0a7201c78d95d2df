"""Who acts at this terminal, and why: what the audit trail keeps of a command that changes something."""

import os
from typing import Annotated

import typer

from core.errors import UsageError

Reason = Annotated[str, typer.Option(help="Why; kept in the audit trail with your name.")]


def actor() -> str:
    """As the audit trail names who sits here."""
    return f"cli:{os.environ.get('USER', 'unknown')}"


def given(reason: str) -> str:
    """Raises UsageError: nothing is said."""
    if not reason.strip():
        raise UsageError("--reason is empty: say why, for those who read the audit trail later.")
    return reason.strip()
