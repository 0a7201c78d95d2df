"""The deployment's secret: what API keys are hashed with, so that a copy of Redis opens nothing.

Every replica must have the same. One that has another would refuse every key; so a check value lies in Redis, and who
does not fit it refuses to start.
"""

import hmac
import os
import secrets
from pathlib import Path

import redis

from core import keys
from core.errors import UsageError
from core.settings import Settings

_SHORTEST = 32
CHECK_FIELD = "secret_check"


def secret(settings: Settings) -> bytes:
    """`PLUMBLINE_SECRET`, else what lies in `home`/secret, which is made if need be (only its owner can read it).

    Raises:
        UsageError: it is too short to be secret, or the file cannot be read.
    """
    found = settings.secret or _from_file(settings.directory / "secret")
    if len(found) < _SHORTEST:
        raise UsageError(f"PLUMBLINE_SECRET needs {_SHORTEST} characters or more: `openssl rand -hex 32` makes some.")
    return found.encode()


def _from_file(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".secret-{secrets.token_hex(8)}")
        if not path.exists():
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32))
            try:
                os.link(fresh, path)  # whole or not at all, and never over another's
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise UsageError(f"{path} cannot be read or made: {error.strerror}. Or set PLUMBLINE_SECRET.") from None


def check_value(secret: bytes) -> str:
    """What lies in Redis and tells two secrets apart."""
    return hmac.digest(secret, b"plumbline secret check", "sha256").hex()


def check(client: redis.Redis, secret: bytes) -> None:
    """Whether this is the secret that the deployment's keys were made with; before there are any it may change.

    Raises:
        UsageError: it is another.
    """
    ours = check_value(secret)
    if not client.exists(keys.API_KEYS):
        client.hset(keys.DEPLOYMENT, CHECK_FIELD, ours)
    if not hmac.compare_digest(str(client.hget(keys.DEPLOYMENT, CHECK_FIELD)), ours):
        raise UsageError(
            "This deployment's API keys were made with another secret: give every replica and the command line the "
            "same PLUMBLINE_SECRET, or the same file PLUMBLINE_HOME/secret."
        )
