"""One line a row, whatever the width."""

from io import StringIO

import pytest
from rich.console import Console

from plumbline.tables import lines


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_last_column_gives_way_and_the_others_stay_whole(width: int) -> None:
    table = lines("run", "created", "reason")
    table.add_row("1e85b8027c04", "2026-11-22", "wins 62.6 % against version 0 (at least 60.7 %)")
    table.add_row("99b869bd2fd2", "2026-11-23", "")
    written = StringIO()
    Console(file=written, width=width).print(table)
    head, first, second = written.getvalue().splitlines()
    assert head.split() == ["run", "created", "reason"]
    assert first.startswith("1e85b8027c04  2026-11-22  wins")
    assert ("…" in first) == (width < 80)
    assert second.split() == ["99b869bd2fd2", "2026-11-23"]
