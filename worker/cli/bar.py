"""How far one long piece of work is, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.cli.output import note

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

#: Between two lines where there is no terminal.
LINE_EVERY_S = 2.0


class Bar:
    """A context manager around the work.

    Args:
        silent: show nothing.
        shown: how a count is written.

    Attributes:
        last: what was shown last, in words; empty before anything was.
    """

    def __init__(self, *, silent: bool, shown: Callable[[int], str] = str) -> None:
        self._silent, self._shown = silent, shown
        self._bars: Bars | None = None
        self._line_at = 0.0
        self.last = ""

    def show(self, doing: str, done: int, total: int) -> None:
        """Show that so much of the total is done; a total of 0 is one that nobody knows."""
        far = f"{self._shown(done)} of {self._shown(total)}" if total >= done else self._shown(done)
        self.last = f"{doing}: {far}"
        if self._bars:
            self._bars.update(self._bars.task_ids[0], description=doing, completed=done, total=total or None, detail=far)
        elif not self._silent and time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_S
            note(self.last)

    def __enter__(self) -> Bar:
        if not self._silent and sys.stderr.isatty():
            self._bars = bars()
            self._bars.add_task("", total=None, detail="")
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()


def bars() -> Bars:
    """Bars on stderr, each task with its `detail`; nothing is drawn yet."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[detail]}", markup=False)]
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=5)
