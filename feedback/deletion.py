"""Takes deleted completions out of the archive. The API took them out of Redis and left their ids in `DELETED`.

As long as an id stands there nothing reads its record, from the archive either (feedback/log.py); it is struck off when
the archive holds it no more. Votes on a deleted completion stay in the log and give no rows, as what they are about is
gone. Out of reach: snapshots that were cut before, and what was trained on them; those go with an erasure.
"""

from typing import cast

import redis

from core import keys
from feedback import archiving, log
from feedback.archive import MANIFEST, Archive
from feedback.erasure_files import erase_archive
from feedback.erasure_plan import Traces


def run(client: redis.Redis, archive: Archive) -> int | None:
    """How many deleted completions are struck off; None if the archive is in use and they must wait.

    Raises:
        UsageError, OSError: the archive is damaged, or not the one that belongs to this Redis; to be tried again.
    """
    deleted = cast(set[str], client.smembers(keys.DELETED))
    if not deleted:
        return 0
    log.check_reaches(archive, log.trimmed(client))
    if (archive.directory / MANIFEST).exists():
        with archiving.alone(archive.directory) as only_one:
            if not only_one:
                return None
            archiving.prepare(client, archive)
            erase_archive(archive, Traces(rater="", hashed="", targets=deleted))
    client.srem(keys.DELETED, *deleted)
    return len(deleted)
