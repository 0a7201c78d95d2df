"""Listening sockets, with an error that says what to do when a port is taken."""

import errno
import socket

from core.errors import UsageError


def listening_socket(host: str, port: int, *, variable: str) -> socket.socket:
    """A bound socket.

    Raises:
        UsageError: the port is taken or the address is not one of this machine; names the `variable` to set.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise UsageError(f"Port {port} on {host} {reason}: stop what uses it, or set {variable}.") from None
    return sock
