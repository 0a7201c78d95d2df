"""Listening sockets."""

import pytest

from core.errors import UsageError
from plumbline.ports import listening_socket


def test_taken_port_names_the_variable_to_set() -> None:
    """A port in use is one line that says what to do."""
    with listening_socket("127.0.0.1", 0, variable="PLUMBLINE_PORT") as first:
        first.listen()
        port = first.getsockname()[1]
        message = rf"Port {port} on 127.0.0.1 is in use: stop what uses it, or set PLUMBLINE_PORT\."
        with pytest.raises(UsageError, match=message):
            listening_socket("127.0.0.1", port, variable="PLUMBLINE_PORT")


def test_foreign_address_is_refused() -> None:
    """An address that is not of this machine cannot be listened on."""
    with pytest.raises(UsageError, match="cannot be used"):
        listening_socket("192.0.2.1", 0, variable="PLUMBLINE_PORT")
