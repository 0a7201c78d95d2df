"""Tables of the command line with one line a row."""

from rich.table import Table


def lines(*columns: str) -> Table:
    """Whatever the terminal's width, the last column gives way, cut off by `…`, and the others stay whole."""
    table = Table(*columns, box=None, expand=True, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    table.columns[-1].ratio, table.columns[-1].overflow = 1, "ellipsis"
    return table
