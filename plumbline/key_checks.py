"""What must be true of API keys before a deployment listens."""

import redis
from redis.exceptions import RedisError

from core import api_keys, secret
from core.errors import UsageError
from core.exposure import is_loopback
from core.records import now
from core.settings import Settings


def refuse_open_doors(settings: Settings, client: redis.Redis) -> None:
    """Whether this process has the deployment's secret, and other machines find a door that a key opens. While Redis
    is away nobody can tell; then who has no known key is refused at the door itself.

    Raises:
        UsageError: another secret, or a listener that others can reach and no key.
    """
    try:
        secret.check(client, secret.secret(settings))
        good = any(it.good(now=now()) for it in api_keys.all_keys(client))
    except RedisError:
        return
    hosts = {"PLUMBLINE_HOST": settings.host, "PLUMBLINE_ADMIN_HOST": settings.admin_host}
    for name, host in hosts.items():
        if not good and not is_loopback(host):
            raise UsageError(
                f"{name} is {host}, which other machines can reach, and there is no API key. Make one first: "
                "`plumbline keys create --name first --scopes chat,feedback,read,train,admin`; it is shown once."
            )
