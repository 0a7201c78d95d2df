"""Which listeners can be reached from other machines."""

import ipaddress


def is_loopback(host: str) -> bool:
    """True of `127.0.0.1`, `::1` and `localhost`; any other name is not known to be."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
