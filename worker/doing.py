"""What a thread or a request is at: the step, the tick or the route on whose behalf a service is asked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Doing:
    """One look of a step, one tick, one sweep or one request.

    Attributes:
        asked: how often each shape of operation was asked for, by whatever names a shape.
    """

    __slots__ = ("_name", "asked")

    def __init__(self, name: str | Callable[[], str]) -> None:
        self._name = name
        self.asked: dict[Hashable, int] = {}

    @property
    def name(self) -> str:
        """Of a bounded set: it is a label of metrics."""
        return self._name if isinstance(self._name, str) else self._name()


_CURRENT: ContextVar[Doing | None] = ContextVar("doing", default=None)


@contextmanager
def at(name: str | Callable[[], str]) -> Iterator[None]:
    """Be at this until the block ends; of blocks in one another the innermost counts.

    Args:
        name: or what tells it later, as of a request whose route is not known yet.
    """
    token = _CURRENT.set(Doing(name))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> Doing | None:
    """What this thread or request is at; None for nothing that was named."""
    return _CURRENT.get()
