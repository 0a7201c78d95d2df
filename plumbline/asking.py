"""How a command asks the deployment's Redis something in the words of the API's own functions."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeVar

from core.errors import ApiError, UsageError

if TYPE_CHECKING:
    import redis.asyncio

T = TypeVar("T")


def ask(call: "Callable[[redis.asyncio.Redis], Coroutine[object, object, T]]") -> T:
    """The call's result.

    Raises:
        UsageError: the call was refused.
    """
    from core.redis import connect_async
    from plumbline.cli import deployment

    async def asked() -> T:
        client = connect_async(deployment().redis_url)
        try:
            return await call(client)
        finally:
            await client.aclose()

    try:
        return asyncio.run(asked())
    except ApiError as refused:
        raise UsageError(str(refused)) from None
