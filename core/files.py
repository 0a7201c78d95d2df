"""Files that must be there after a crash, and what names them."""

import hashlib
import os
from pathlib import Path


def fsync(path: Path) -> None:
    """Of a file or a directory; a rename lasts once its directory was forced to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
