"""Times as the command line writes them."""

import time


def local_time(at: float) -> str:
    """Unix seconds, where this machine is: `2026-11-21 14:15:00`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
