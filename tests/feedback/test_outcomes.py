"""What became of each vote, in a file of its own in the snapshot."""

import pyarrow as pa
import pytest

from feedback import outcomes
from feedback.outcomes import GROUP, Outcome


def outcome(number: int) -> Outcome:
    used_as, reason = [("pair", "stale"), (None, "duplicate"), ("demonstration", None)][number % 3]
    return Outcome(feedback_id=f"fb_{number:06}", used_as=used_as, reason=reason, trains_policy=reason is None)


def test_every_vote_is_found_by_its_id(tmp_path):
    """Whatever the order of writing: the first and last of each row group, and none that is not there."""
    outcomes.write(tmp_path, [outcome(number) for number in reversed(range(1, 3 * GROUP))])
    found = outcomes.opened(tmp_path)
    assert found.begins == ["fb_000001", f"fb_{GROUP + 1:06}", f"fb_{2 * GROUP + 1:06}"]
    for number in (1, 2, 3, GROUP, GROUP + 1, 2 * GROUP, 2 * GROUP + 1, 3 * GROUP - 1):
        assert found.of(f"fb_{number:06}") == outcome(number)
    for missing in ("fb_000000", f"fb_{GROUP:06}x", f"fb_{3 * GROUP:06}", "", "z"):
        assert found.of(missing) is None


def test_a_snapshot_without_votes_has_none(tmp_path):
    outcomes.write(tmp_path, [])
    assert outcomes.opened(tmp_path).of("fb_1") is None


def test_one_look_reads_one_row_group(tmp_path):
    """The others may be damaged, which only a look into them finds."""
    outcomes.write(tmp_path, [outcome(number) for number in range(3 * GROUP)])
    found = outcomes.opened(tmp_path)
    group = found.metadata.row_group(1)
    columns = [group.column(index) for index in range(group.num_columns)]
    begin = min(it.dictionary_page_offset or it.data_page_offset for it in columns)
    content = bytearray(found.path.read_bytes())
    length = sum(it.total_compressed_size for it in columns)
    content[begin : begin + length] = b"x" * length
    found.path.write_bytes(content)
    assert found.of("fb_000007") == outcome(7)
    assert found.of(f"fb_{3 * GROUP - 1:06}") == outcome(3 * GROUP - 1)
    with pytest.raises((OSError, pa.ArrowException)):
        found.of(f"fb_{GROUP + 7:06}")
