"""The product on a stage: every module of it reads the clock of the world it acts in, and dies at the files as well as at a service."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol
from unittest.mock import patch

from tests.faults.mortal import DELETION, FILES
from worker.delivery import finish, place
from worker.jobs.directories import delete_work_directory


class Scene(Protocol):
    """What the product sees instead of the machine."""

    def read(self) -> float:
        """Seconds since boot."""

    def wall(self) -> float:
        """The wall clock."""

    def pass_time(self, seconds: float) -> None:
        """Sleep."""

    def draw(self, size: int) -> str:
        """Random bytes in hexadecimal."""

    def effect(self, service: str, call: Callable[..., Any], *args: Any) -> Any:
        """Do something to the files."""

    def fault_of_ours(self, text: str, **values: Any) -> None:
        """Log an exception that nobody expected."""


class Serial:
    """Takes the place of a pool of threads, so that a step does the same things in the same order each time."""

    def __init__(self, threads: int) -> None:
        """As a pool is made."""

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing runs any more."""

    def map(self, call: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """One after the other."""
        return [call(item) for item in items]


@contextmanager
def on_stage(scene: Scene) -> Iterator[None]:
    """Inside, nothing of the product depends on the machine but its files and its database."""

    def error(text: str, **values: Any) -> None:
        if "exc_info" in values:
            scene.fault_of_ours(text, **values)

    log = SimpleNamespace(**dict.fromkeys(("debug", "info", "warning"), _ignore), error=error, exception=scene.fault_of_ours)
    instead: dict[int, Any] = {
        id(time): SimpleNamespace(monotonic=scene.read, time=scene.wall, sleep=scene.pass_time),
        id(secrets): SimpleNamespace(token_hex=scene.draw),
        id(delete_work_directory): partial(scene.effect, DELETION, delete_work_directory),
    }
    with ExitStack() as patches:
        for module in [module for name, module in sorted(sys.modules.items()) if name.startswith("worker.")]:
            for name, value in list(vars(module).items()):
                if name == "log" or id(value) in instead:
                    patches.enter_context(patch.object(module, name, log if name == "log" else instead[id(value)]))
        patches.enter_context(patch.object(finish, "ThreadPoolExecutor", Serial))
        for verb in ("put", "sync_files"):
            patches.enter_context(patch.object(place, verb, partial(scene.effect, FILES, getattr(place, verb))))
        yield


def _ignore(*texts: Any, **values: Any) -> None:
    """A line of the log that tells of no fault."""
