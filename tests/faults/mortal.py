"""A process whose n-th effect goes wrong: it dies before or after it, gets no answer, an answer too late, or stands still meanwhile."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any, Protocol

from worker.jobs.errors import Transient

#: Verbs that ask nobody.
INWARD = frozenset({"now", "handle", "close", "rest"})
#: Verbs that change nothing: to die there is to die at the next change.
READS = frozenset(
    {
        *("get", "at_engine", "needing_owner", "in_state", "undescribed", "unprobed", "unsent", "unposted", "counts", "engine_counts"),
        *("drains", "engine_states", "torrents", "promised", "short_of_space", "holding", "following", "sharing", "followed"),
        *("poll", "files", "intake_size", "waiting_heads", "waiting_size", "snapshots", "looked"),
    }
)
ENGINE, STORE, REDIS, STREAM, BROKER, FILES = "engine", "store", "redis", "stream", "broker", "files"
#: What may give no answer; the rest are places to die at.
ANSWERING = frozenset({ENGINE, STORE, REDIS, STREAM, BROKER, FILES})
DELETION = "deletion"


class Crash(BaseException):
    """The process is gone: no handler of the product may live to see it."""


class Kind(StrEnum):
    """What goes wrong at an effect."""

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    LOST = "request lost"
    UNHEARD = "answer lost"
    LATE = "carried out late"  # by an engine: the caller was told that there is no answer
    HALF = "half done"  # by an engine: the first half of what was asked for
    STALL = "stalls"  # as under SIGSTOP, while others go on


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong, once, in one process.

    Attributes:
        at: the number of the effect, from 1, over all steps, of those that it can befall.
        where: the service or the failpoint at which, if it is to be a certain one.
        seconds: how late the call is carried out, or how long each part of the stall takes.
        meanwhile: what others do during a stall, in order.
    """

    kind: Kind
    at: int
    seconds: float = 0.0
    meanwhile: tuple[Any, ...] = ()
    where: str | None = None

    def befalls(self, service: str, call: Callable[..., Any], args: Sequence[Any]) -> bool:
        """Whether a call can go wrong in this way."""
        if self.where not in (None, service):
            return False
        if self.kind not in (Kind.LOST, Kind.STALL) and getattr(call, "__name__", "") in READS:
            return False
        if self.kind in (Kind.LATE, Kind.HALF):
            return service == ENGINE and (self.kind is Kind.LATE or len(args[0]) > 1)
        return service in ANSWERING or self.kind not in (Kind.LOST, Kind.UNHEARD)


class Around(Protocol):
    """What goes on outside of the process."""

    def land_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Carry the call out after this time."""

    def go_on_without(self, process: Mortal, trouble: Trouble) -> None:
        """Let the others go on while this process stands still."""


class Mortal:
    """One process, as far as its calls go: every call to the outside passes `reach`.

    Attributes:
        troubles: still ahead.
        dead: it makes no call any more.
        stalled: it stood still in the step it is in, or was last in.
    """

    def __init__(self, around: Around) -> None:
        self._around = around
        self.troubles: list[Trouble] = []
        self.dead = False
        self.stalled = False

    def expect(self, troubles: Iterable[Trouble]) -> None:
        """From now on these are about to go wrong, and no others."""
        self.troubles = list(troubles)

    def begin(self) -> None:
        """A step begins."""
        self.stalled = False

    def reach(self, service: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Make a call, unless it is the one at which something goes wrong."""
        if self.dead:
            raise Crash
        near = [place for place, trouble in enumerate(self.troubles) if trouble.befalls(service, call, args)]
        struck = next((place for place in near if self.troubles[place].at <= 1), None)
        if struck is not None:
            return self._struck(self.troubles.pop(struck), service, call, args, options)
        for place in near:
            self.troubles[place] = replace(self.troubles[place], at=self.troubles[place].at - 1)
        return call(*args, **options)

    def _struck(self, trouble: Trouble, service: str, call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        kind = trouble.kind
        if kind is Kind.CRASH_BEFORE:
            self._die()
        if kind is Kind.STALL:
            self.stalled = True
            self._around.go_on_without(self, trouble)
        if kind is Kind.LATE:
            self._around.land_later(trouble.seconds, lambda: call(*args, **options))
        if kind is Kind.HALF:
            call(_half(args[0]))
        if kind in (Kind.LOST, Kind.LATE, Kind.HALF):
            raise _no_answer(service)
        answer = call(*args, **options)
        if kind is Kind.CRASH_AFTER:
            self._die()
        if kind is Kind.UNHEARD:
            raise _no_answer(service)
        return answer

    def _die(self) -> None:
        self.dead = True
        raise Crash


def _half(whole: Any) -> Any:
    """The first half of what a call was given, a sequence or a mapping."""
    items = list(islice(whole.items() if isinstance(whole, Mapping) else whole, len(whole) // 2))
    return dict(items) if isinstance(whole, Mapping) else items


def _no_answer(service: str) -> Exception:
    return OSError(errno.EIO, "the disk answered with an error") if service == FILES else Transient(service, "no answer in time")


class Reached:
    """A service as a mortal process reaches it."""

    def __init__(self, process: Mortal, service: str, inner: Any) -> None:
        self._process, self._service, self._inner = process, service, inner

    def __getattr__(self, verb: str) -> Any:
        value = getattr(self._inner, verb)
        if verb in INWARD or not callable(value):
            return value
        return lambda *args, **options: self._process.reach(self._service, value, *args, **options)


class Points:
    """The failpoints of a mortal process: named places to die at between two effects."""

    def __init__(self, process: Mortal) -> None:
        self._process = process

    def hit(self, name: str, *about: str) -> None:
        """Pass the point."""
        self._process.reach(name, lambda: None)
