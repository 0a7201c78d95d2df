"""How the demo shows itself: a live panel with bars on a terminal, plain lines with seconds where there is none."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

_PLAIN_WIDTH = 150
_PLAIN_EVERY_S = 10.0


class Display:
    """A line for each thing that happened, a bar for each thing under way, and a status line that is asked for."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.status: Callable[[], str] = str
        """Asked for the status line whenever it is shown; the empty string until somebody sets it."""
        self._begun = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        self._live = Live(get_renderable=self._panel, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, line: str, *, style: str = "") -> None:
        """Something happened; the line stays."""
        self.console.print(Text(f"{self._elapsed()}  {line}", style=style))

    def bar(self, name: str, done: float, total: float, *, note: str = "") -> None:
        """Something is under way: `name` identifies its bar. Without a terminal, a line now and then."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=min(done, total), total=total, note=note)
        if not self.console.is_terminal and time.monotonic() - self._said.get(name, 0.0) >= _PLAIN_EVERY_S:
            self._said[name] = time.monotonic()
            parts = (f"{name}: {done:.0f}/{total:.0f}", note, self.status())
            self.console.print(Text(f"{self._elapsed()}    {'  '.join(part for part in parts if part)}", style="dim"))

    def end(self, name: str) -> None:
        """The bar has no more to say."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
            self._said.pop(name, None)

    def _panel(self) -> RenderableType:
        return Group(self._bars, Text(f"  {self.status()}", style="cyan"))

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        return f"{minutes:3}:{seconds:02}"


def console() -> Console:
    """Standard output. A pipe has no width, and the table needs one."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=_PLAIN_WIDTH, force_terminal=False)
